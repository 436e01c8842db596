import CUV
import CUVShims
import Prelude

extension EventLoop {
    /// Runs `action` on the loop whenever the process gets one of `signals`, until the watch is cancelled or
    /// the loop closed. Precondition: `signals` can be caught.
    public func onSignal(_ signals: [Int32], _ action: @escaping (Int32) -> Void) -> SignalWatch {
        SignalWatch(loop: self, signals: signals, action: action)
    }
}

/// Cancelled by `cancel` only: it goes on when the value is dropped.
public final class SignalWatch: LoopResource {
    private let loop: EventLoop
    private let action: (Int32) -> Void
    private var handles: [UnsafeMutablePointer<uv_signal_t>] = []
    private var openHandleCount = 0

    fileprivate init(loop: EventLoop, signals: [Int32], action: @escaping (Int32) -> Void) {
        self.loop = loop
        self.action = action
        guard loop.adopt(self) else { return }
        for signal in Set(signals) {
            let handle = UnsafeMutablePointer<uv_signal_t>.allocate(capacity: 1)
            invariant(uv_signal_init(loop.uvLoop, handle) == 0, "a signal can be watched")
            handle.pointee.data = Unmanaged.passUnretained(self).toOpaque()
            let result = uv_signal_start(handle, { SignalWatch.from($0?.pointee.data)?.action($1) }, signal)
            invariant(result == 0, "signal \(signal) can be caught")
            handles.append(handle)
        }
        openHandleCount = handles.count
        if handles.isEmpty { loop.release(self) }
    }

    deinit {
        for handle in handles { handle.deallocate() }
    }

    public func cancel() {
        for handle in handles where uv_is_closing(raftoral_uv_handle(handle)) == 0 {
            uv_close(raftoral_uv_handle(handle)) { SignalWatch.from($0?.pointee.data)?.handleDidClose() }
        }
    }

    func loopWillClose() { cancel() }

    private func handleDidClose() {
        openHandleCount -= 1
        if openHandleCount == 0 { loop.release(self) }
    }

    private static func from(_ data: UnsafeMutableRawPointer?) -> SignalWatch? {
        data.map { Unmanaged<SignalWatch>.fromOpaque($0).takeUnretainedValue() }
    }
}
