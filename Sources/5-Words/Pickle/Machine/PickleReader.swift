public import NIOCore

/// Reads pickles of protocols 0 to 5 as data.
///
/// No code is run, whatever the pickle says. A closed list of constructors (sets, dates, complex numbers, NumPy arrays and
/// the like) gives values; an object of any other class becomes a ``PickleObject`` that says how Python would make it. Any
/// bytes at all may be given: those that are no pickle throw.
public struct PickleReader: Sendable {
    /// How much a pickle may ask for, so that a small one cannot exhaust memory or time.
    public struct Limits: Sendable, Hashable {
        /// How deep values may contain each other. A walk over a value (comparing, printing, decoding it) takes up to
        /// 1.4 kB of stack a level, and some threads have 512 kB.
        public var depth = 200
        /// How many different memo entries there may be.
        public var memoEntries = 1 << 24
        /// How many times larger than the pickle the value may be once shared parts are counted each time they appear.
        /// Shared parts take their memory once here too, but a walk over the value visits them every time.
        public var amplification = 64
        /// The size that a value of any pickle may have; each byte of text or data counts as one, and so does each value. Four million
        /// values without their sharing, as in a value that was written and read again, take some 250 MB.
        public var leastAllowedSize = 1 << 22

        /// The default limits.
        public init() {}
    }

    /// How much a pickle may ask for.
    public var limits: Limits

    /// A reader with these limits.
    public init(limits: Limits = Limits()) { self.limits = limits }

    /// Reads one pickle and moves the reader index past it.
    ///
    /// Large byte strings and arrays in the value share the buffer's memory.
    ///
    /// - Parameter outOfBand: The buffers a protocol 5 pickle left out, in order.
    /// - Throws: ``PickleError``; the reader index is then where it was.
    public func read(from buffer: inout ByteBuffer, outOfBand: [ByteBuffer] = []) throws -> PickleValue {
        var length = 0
        let value = try self.read(buffer, outOfBand: outOfBand, length: &length)
        buffer.moveReaderIndex(forwardBy: length)
        return value
    }

    /// Reads the pickle at the front of a buffer; bytes after it are ignored, as in Python.
    public func read(_ buffer: ByteBuffer, outOfBand: [ByteBuffer] = []) throws -> PickleValue {
        var length = 0
        return try self.read(buffer, outOfBand: outOfBand, length: &length)
    }

    private func read(_ buffer: ByteBuffer, outOfBand: [ByteBuffer], length: inout Int) throws -> PickleValue {
        try buffer.withUnsafeReadableBytes { bytes in
            var cursor = PickleCursor(bytes: bytes)
            // Most arguments and results are one number, text or None; they need no machine.
            if let value = cursor.readScalarPickle() {
                length = cursor.position
                return value
            }
            var machine = PickleMachine(cursor: cursor, buffer: buffer, outOfBand: outOfBand, limits: self.limits)
            let root = try machine.run()
            length = machine.cursor.position
            return try machine.assemble(root)
        }
    }
}
