import ApusCore
import ApusWire
import NIOCore

/// A frame that a kernel has sent (`kernel.py`), decoded.
enum KernelFrame: Sendable {
    case ready(About)
    case begun
    case missedInterrupt
    case publication(Publication)
    case reply(Reply)
    case leaves

    /// What the kernel says about itself when it is ready.
    struct About: Sendable {
        /// Python's version and whether it has IPython, in words.
        let words: String
        /// Whether the kernel takes large parts as ``KernelMemory``.
        let borrows: Bool
    }

    /// A message to publish.
    struct Publication: Sendable {
        /// Which of the kernel's requests it is for, counted from 1.
        let place: Int
        let topic: String
        let type: MessageType
        let metadata: ByteBuffer
        let content: ByteBuffer
        let buffers: [ByteBuffer]
        /// The text, if the message is output to Python's error stream; else nil.
        let errorText: String?
    }

    /// The reply that ends a request.
    struct Reply: Sendable {
        /// False for a request that gets no reply, such as a comm's message.
        let isAnswer: Bool
        let isOK: Bool
        let meetsDependencies: Bool
        /// Whether the reply is an error that stops the cells queued behind this one.
        let stopsOthers: Bool
        let content: ByteBuffer
        let buffers: [ByteBuffer]
    }

    /// Decodes a frame; nil for a frame that `kernel.py` never writes.
    init?(_ parts: [ByteBuffer]) {
        switch parts.first {
        case Word.publish where parts.count >= 6:
            let isError = parts[2] == Word.errorStream
            self = .publication(
                Publication(
                    place: Int(String(buffer: parts[1])) ?? 0, topic: String(buffer: parts[2]),
                    type: MessageType(rawValue: String(buffer: parts[3])), metadata: parts[4], content: parts[5],
                    buffers: Array(parts[6...]),
                    errorText: isError ? (try? JSONValue(parsing: parts[5]))?["text"]?.string : nil))
        case Word.request where parts.count >= 5:
            let isAnswer = parts[1] != Word.none
            self = .reply(
                Reply(
                    isAnswer: isAnswer, isOK: parts[1] == Word.ok, meetsDependencies: parts[2] != Word.unmetDependency,
                    stopsOthers: isAnswer && parts[3] == Word.abort, content: parts[4], buffers: Array(parts[5...])))
        case Word.ready where parts.count >= 2:
            let about = try? JSONValue(parsing: parts[1])
            let shell = about?["ipython"]?.bool == true ? "with IPython" : "without IPython"
            self = .ready(
                About(words: "Python \(about?["python"]?.string ?? "?") \(shell)", borrows: about?["memory"]?.bool == true))
        case Word.begun: self = .begun
        case Word.missedInterrupt: self = .missedInterrupt
        case Word.leaves: self = .leaves
        default: return nil
        }
    }

    /// The frame as the session is told of it.
    var saying: KernelSession.Saying {
        switch self {
        case .ready: .ready(at: MonotonicTime(nanoseconds: NIODeadline.now().uptimeNanoseconds))
        case .begun: .begun
        case .missedInterrupt: .missedInterrupt
        case .publication(let publication): .published(place: publication.place)
        case .reply(let reply): .replied(stopsOthers: reply.stopsOthers)
        case .leaves: .leaves
        }
    }

    // MARK: What a kernel is told

    static func request(_ type: MessageType, _ message: Message) -> [ByteBuffer] {
        [Word.request, ByteBuffer(string: type.rawValue), message.metadata, message.content] + message.buffers
    }

    static func identity(_ id: EngineID, _ uuid: EngineUUID) -> [ByteBuffer] {
        [Word.identity, ByteBuffer(string: "\(id)"), ByteBuffer(string: uuid.text)]
    }

    static let clear = [Word.clear]
}

/// The words of the frames.
private enum Word {
    static let request = ByteBuffer(string: "R")
    static let publish = ByteBuffer(string: "P")
    static let ready = ByteBuffer(string: "S")
    static let identity = ByteBuffer(string: "I")
    static let clear = ByteBuffer(string: "C")
    static let begun = ByteBuffer(string: "B")
    static let missedInterrupt = ByteBuffer(string: "N")
    static let leaves = ByteBuffer(string: "E")
    static let ok = ByteBuffer(string: "ok")
    static let none = ByteBuffer(string: "none")
    static let abort = ByteBuffer(string: "abort")
    /// The topic of what Python writes to its error stream.
    static let errorStream = ByteBuffer(string: "stderr")
    static let unmetDependency = ByteBuffer(string: ErrorName.unmetDependency.rawValue)
}
