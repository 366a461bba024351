import NIOCore

/// The output of a pickle writer: a little memory on the stack, emptied into the buffer when it is full.
///
/// A pickle is many writes of a few bytes, and a `ByteBuffer` checks each for room and for other owners.
struct PickleOutput {
    private let memory: UnsafeMutableRawBufferPointer
    /// Bytes in memory and not yet in the buffer.
    private var count = 0
    private var buffer = ByteBuffer()

    private init(memory: UnsafeMutableRawBufferPointer) { self.memory = memory }

    /// Runs the body, and appends its output to the buffer.
    @inline(__always)
    static func write(into buffer: inout ByteBuffer, _ body: (inout PickleOutput) -> Void) {
        withUnsafeTemporaryAllocation(byteCount: 1024, alignment: 8) { memory in
            var output = PickleOutput(memory: memory)
            // The buffer moves in and out, for two owners would make the first write copy it.
            swap(&buffer, &output.buffer)
            body(&output)
            output.flush()
            swap(&buffer, &output.buffer)
        }
    }

    private mutating func flush() {
        self.buffer.writeBytes(UnsafeRawBufferPointer(rebasing: self.memory[..<self.count]))
        self.count = 0
    }

    @inline(__always)
    private mutating func makeRoom(_ size: Int) {
        if self.count + size > self.memory.count { self.flush() }
    }

    @inline(__always)
    private mutating func store<T: FixedWidthInteger>(_ value: T) {
        self.memory.storeBytes(of: value.littleEndian, toByteOffset: self.count, as: T.self)
        self.count += MemoryLayout<T>.size
    }

    @inline(__always)
    mutating func write(_ opcode: PickleOpcode) {
        self.makeRoom(1)
        self.store(opcode.rawValue)
    }

    /// An opcode and the number after it, least significant byte first.
    @inline(__always)
    mutating func write<T: FixedWidthInteger>(_ opcode: PickleOpcode, _ operand: T) {
        self.makeRoom(1 + MemoryLayout<T>.size)
        self.store(opcode.rawValue)
        self.store(operand)
    }

    @inline(__always)
    mutating func write(_ opcode: PickleOpcode, _ first: UInt8, _ second: Int) {
        self.makeRoom(10)
        self.store(opcode.rawValue)
        self.store(first)
        self.store(second)
    }

    mutating func write(_ bytes: UnsafeRawBufferPointer) {
        self.makeRoom(bytes.count)
        if bytes.count > self.memory.count {
            self.buffer.writeBytes(bytes)
        } else {
            UnsafeMutableRawBufferPointer(rebasing: self.memory[self.count...]).copyMemory(from: bytes)
            self.count += bytes.count
        }
    }

    mutating func write(_ text: String) {
        var text = text
        text.withUTF8 { self.write(UnsafeRawBufferPointer($0)) }
    }

    mutating func write(_ bytes: ByteBuffer) { bytes.withUnsafeReadableBytes { self.write($0) } }
}
