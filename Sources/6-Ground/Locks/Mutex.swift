// The lock that all of Apus uses: `Synchronization.Mutex`, but in a build for the thread sanitizer a lock that the sanitizer
// knows.

@_exported public import Synchronization

#if APUS_THREAD_SANITIZER
    #if canImport(Glibc)
        private import Glibc
    #elseif canImport(Musl)
        private import Musl
    #elseif canImport(Darwin)
        private import Darwin
    #endif

    /// Stands in for `Synchronization.Mutex` under the thread sanitizer.
    ///
    /// On Linux `Synchronization.Mutex` waits on a futex, which the sanitizer does not see: it would report every access that the
    /// lock protects. The sanitizer knows the locks of pthread.
    package struct Mutex<Value: ~Copyable>: ~Copyable {
        private let storage: Storage

        private final class Storage {
            let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
            var value: Value

            init(_ value: consuming Value) {
                self.value = value
                self.lock.initialize(to: pthread_mutex_t())
                precondition(pthread_mutex_init(self.lock, nil) == 0, "the system gives no lock")
            }

            deinit {
                pthread_mutex_destroy(self.lock)
                self.lock.deallocate()
            }
        }

        package init(_ initialValue: consuming sending Value) { self.storage = Storage(initialValue) }

        package borrowing func withLock<Result: ~Copyable, Failure: Error>(
            _ body: (inout sending Value) throws(Failure) -> sending Result
        ) throws(Failure) -> sending Result {
            pthread_mutex_lock(self.storage.lock)
            defer { pthread_mutex_unlock(self.storage.lock) }
            return try body(&self.storage.value)
        }

        package borrowing func withLockIfAvailable<Result: ~Copyable, Failure: Error>(
            _ body: (inout sending Value) throws(Failure) -> sending Result
        ) throws(Failure) -> sending Result? {
            guard pthread_mutex_trylock(self.storage.lock) == 0 else { return nil }
            defer { pthread_mutex_unlock(self.storage.lock) }
            return try body(&self.storage.value)
        }
    }

    // The value is reached only while the lock is held.
    extension Mutex: @unchecked Sendable where Value: ~Copyable {}
#endif
