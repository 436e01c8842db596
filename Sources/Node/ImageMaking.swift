import Prelude
import Storage

/// A whole image of a group's state store.
struct MadeImage: Sendable {
    var head: StateHead
    var byteCount: UInt64
    /// CRC-32C of the file.
    var checksum: UInt32
}

extension Node {
    /// Brings the state store up to what the group has applied now, or further, and copies it to `path`, at a bounded
    /// rate and without holding up the loop. After a failure nothing is left there. `prepare` changes the copy before it
    /// is measured, on another thread.
    func makeImage(
        of group: RaftGroup, at path: String,
        prepare: @escaping @Sendable () throws(StorageError) -> Void = {},
        completion: @escaping (Result<MadeImage, StorageError>) -> Void
    ) {
        guard let store = stores[group.id], phase != .stopped else { return completion(.failure(.closed)) }
        store.whenWritten(upTo: group.appliedIndex) { [weak self] result in
            guard let self else { return }
            if case .failure(let error) = result { return completion(.failure(error)) }
            let image = StateImage(path, disk: seams.disk)
            advance(image, of: store, Pacer()) { [weak self] result in
                guard let self else { return }
                switch result {
                case .success(let head): measure(path, head, prepare, completion)
                case .failure(let error): completion(.failure(error))
                }
            }
        }
        requestTurn()
    }

    private func advance(
        _ image: StateImage, of store: GroupStore, _ pacer: Pacer,
        completion: @escaping (Result<StateHead, StorageError>) -> Void
    ) {
        var pacer = pacer
        let byteCount = UInt64(limits.node.imagePieceByteCount)
        let pause = pacer.take(
            byteCount, bytesPerSecondMax: limits.node.imageBytesPerSecondMax, now: seams.clock.now)
        let step = { [weak self] in
            guard let self else { return }
            store.advance(image, byteCount: Int(byteCount)) { [weak self] result in
                switch result {
                case .success(nil): self?.advance(image, of: store, pacer, completion: completion)
                case .success(let head?): completion(.success(head))
                case .failure(let error): completion(.failure(error))
                }
            }
        }
        if pause == 0 { return step() }
        _ = seams.clock.schedule(after: pause, step)
    }

    private func measure(
        _ path: String, _ head: StateHead, _ prepare: @escaping @Sendable () throws(StorageError) -> Void,
        _ completion: @escaping (Result<MadeImage, StorageError>) -> Void
    ) {
        let disk = seams.disk
        seams.work.perform { () -> Result<MadeImage, StorageError> in
            do throws(StorageError) {
                try prepare()
                let (byteCount, checksum) = try StateFiles.measure(path, disk: disk)
                return .success(MadeImage(head: head, byteCount: byteCount, checksum: checksum))
            } catch {
                try? StateFiles.remove(path, disk)
                return .failure(error)
            }
        } completion: {
            completion($0)
        }
    }
}
