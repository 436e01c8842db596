import Prelude
import Testing

@testable import Reactor

/// Rules whose breach is our own bug, and ends the process at once.
@Suite struct RulesTests {
    @Test func loopBoundValueStaysOnItsLoop() async {
        await #expect(processExitsWith: .failure) {
            let loop = try EventLoop()
            let box = LoopBound(0, to: loop)
            _ = box.value
        }
    }

    @Test func loopIsClosedBeforeItIsReleased() async {
        await #expect(processExitsWith: .failure) {
            _ = try EventLoop()
        }
    }

    @Test func loopDoesNotRunWithinItself() async {
        await #expect(processExitsWith: .failure) {
            let loop = try EventLoop()
            loop.submit { loop.run() }
            loop.run()
        }
    }

    @Test func properUseExitsInOrder() async {
        await #expect(processExitsWith: .success) {
            let loop = try EventLoop()
            let box = LoopBound(0, to: loop)
            loop.submit {
                _ = box.value
                loop.stop()
            }
            loop.run()
            loop.close()
        }
    }
}
