package import NIOCore

/// A message as its frames: identities, delimiter, signature, header, parent header, metadata, content, buffers.
///
/// The frames stay as they came. A router forwards them untouched; a reader of one field scans the part that holds the field
/// (protocol article, "Frames").
package struct Message: Sendable, Hashable {
    package private(set) var frames: [ByteBuffer]
    /// Where the delimiter stands; the frames before it are identities.
    private let delimiter: Int

    package static let delimiterFrame = ByteBuffer(string: "<IDS|MSG>")

    /// Splits frames at the first delimiter.
    ///
    /// - Throws: ``WireError`` when there is no delimiter, or fewer than the five frames that must follow it.
    package init(frames: [ByteBuffer]) throws(WireError) {
        guard let delimiter = frames.firstIndex(where: { $0 == Self.delimiterFrame }) else {
            throw WireError("a message of \(frames.count) frames has no delimiter")
        }
        guard frames.count >= delimiter + 6 else {
            throw WireError("a message ends \(frames.count - delimiter - 1) frames after its delimiter, 5 are needed")
        }
        self.frames = frames
        self.delimiter = delimiter
    }

    package init(identities: [ByteBuffer], signature: ByteBuffer, parts: MessageParts, buffers: [ByteBuffer]) {
        var frames: [ByteBuffer] = []
        frames.reserveCapacity(identities.count + 6 + buffers.count)
        frames.append(contentsOf: identities)
        frames.append(Self.delimiterFrame)
        frames.append(signature)
        frames.append(parts.header)
        frames.append(parts.parent)
        frames.append(parts.metadata)
        frames.append(parts.content)
        frames.append(contentsOf: buffers)
        self.frames = frames
        self.delimiter = identities.count
    }

    package var identities: ArraySlice<ByteBuffer> { self.frames[..<self.delimiter] }
    package var signature: ByteBuffer { self.frames[self.delimiter + 1] }
    package var header: ByteBuffer { self.frames[self.delimiter + 2] }
    package var parent: ByteBuffer { self.frames[self.delimiter + 3] }
    package var metadata: ByteBuffer { self.frames[self.delimiter + 4] }
    package var content: ByteBuffer { self.frames[self.delimiter + 5] }
    package var buffers: ArraySlice<ByteBuffer> { self.frames[(self.delimiter + 6)...] }
    package var parts: MessageParts {
        MessageParts(header: self.header, parent: self.parent, metadata: self.metadata, content: self.content)
    }

    /// The same message behind other identities.
    package func readdressed(to identities: [ByteBuffer]) -> Message {
        var frames = identities
        frames.reserveCapacity(identities.count + self.frames.count - self.delimiter)
        frames.append(contentsOf: self.frames[self.delimiter...])
        return Message(frames: frames, delimiter: identities.count)
    }

    private init(frames: [ByteBuffer], delimiter: Int) {
        self.frames = frames
        self.delimiter = delimiter
    }

    /// Puts other bytes in a buffer's place, counted from the first buffer.
    package mutating func replaceBuffer(at place: Int, by bytes: ByteBuffer) { self.frames[self.delimiter + 6 + place] = bytes }

    /// Bytes of the buffers.
    package var bufferByteCount: Int { self.buffers.reduce(0) { $0 + $1.readableBytes } }

    /// Bytes of the message body that its owner keeps alive: the delimiter and everything after it.
    package var byteCount: Int { self.frames[self.delimiter...].reduce(0) { $0 + $1.readableBytes } }
}

/// The four packed parts that a signature covers.
package struct MessageParts: Sendable, Hashable {
    package var header: ByteBuffer
    package var parent: ByteBuffer
    package var metadata: ByteBuffer
    package var content: ByteBuffer

    package static let emptyObject = ByteBuffer(string: "{}")

    package init(
        header: ByteBuffer, parent: ByteBuffer = Self.emptyObject, metadata: ByteBuffer = Self.emptyObject,
        content: ByteBuffer = Self.emptyObject
    ) {
        self.header = header
        self.parent = parent
        self.metadata = metadata
        self.content = content
    }
}
