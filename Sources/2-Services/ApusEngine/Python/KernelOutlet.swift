import ApusCore
import ApusFunctions
import ApusWire
import NIOCore
import Pickle

/// Makes and sends the messages about a kernel's requests: that the engine is busy, output, the reply, that the engine is idle.
///
/// Messages collect until ``flush()``, so that all messages of one event leave together.
struct KernelOutlet: Sendable {
    /// Where replies and output go.
    private struct Connection: Sendable {
        var messages: EngineMessages
        let exchange: WorkExchange
        let capture: OutputCapture?
    }

    /// Nil until the engine has an id, which is before its first request.
    private var connection: Connection?
    /// The request that runs; nil when it has been answered.
    private var current: KernelRequest?
    private var parents = KernelParents()
    /// The collected messages, in order.
    private var outgoing: [OutgoingMessage] = []
    /// Messages that follow `outgoing` and may wait for others to leave with: that the engine is idle.
    private var trailing: [OutgoingMessage] = []

    mutating func connect(_ messages: EngineMessages, _ exchange: WorkExchange, _ capture: OutputCapture?) {
        self.connection = Connection(messages: messages, exchange: exchange, capture: capture)
    }

    /// Takes the worker's next request, and gives its number.
    mutating func begin(_ request: KernelRequest) -> Int {
        self.current = request
        self.parents.append(request.message.header)
        self.connection?.capture?.begin(parent: request.message.header)
        return self.parents.count
    }

    /// The number of the running request, if the request has one of these ids.
    func number(anyOf ids: Set<MessageID>) -> Int? {
        let id = self.current.flatMap { MessageHeader.messageID(scanning: $0.message.header) }
        return id.map(ids.contains) == true ? self.parents.count : nil
    }

    // MARK: What the kernel is told

    /// The frame with the engine's id and uuid; nil while the engine has no id.
    var identityFrame: [ByteBuffer]? { self.connection.map { KernelFrame.identity($0.messages.engineID, $0.messages.uuid) } }

    var requestFrame: [ByteBuffer]? { self.current.map { KernelFrame.request($0.type, $0.message) } }

    // MARK: What clients are told

    mutating func tellBusy() {
        guard let current, let busy = self.connection?.messages.status(.busy, parent: current.message.header) else { return }
        self.outgoing.append(busy)
    }

    mutating func publish(_ publication: KernelFrame.Publication, for request: Int) {
        guard let parent = self.parents[request] else { return }
        if let text = publication.errorText { self.connection?.capture?.remember(text) }
        guard let message = self.connection?.messages.message(publication, parent: parent) else { return }
        self.outgoing.append(message)
    }

    /// Sends the reply that Python gave.
    mutating func answer(_ reply: KernelFrame.Reply, outputs: Int) {
        self.end(outputs: outputs) { connection, request, outgoing, outputs in
            guard reply.isAnswer else { return }
            let isTask = request.type == .applyRequest || request.type == .executeRequest
            let metadata =
                isTask
                ? request.metadata.reply(
                    reply.isOK ? .ok : .error, by: connection.messages.engine, started: request.started,
                    meetsDependencies: reply.meetsDependencies, outputs: outputs) : nil
            outgoing.append(
                connection.messages.reply(
                    request.type.reply, to: request.message, on: request.channel, metadata: metadata, content: reply.content,
                    buffers: reply.buffers))
        }
    }

    /// Sends an error as the reply, in place of a kernel that has ended.
    mutating func answer(_ end: KernelEnd, goesOn: Bool, outputs: Int) {
        self.end(outputs: outputs) { connection, request, outgoing, outputs in
            guard request.type.isAnswered else { return }
            let isExecute = request.type == .executeRequest
            let rest = goesOn ? ". The engine goes on with a new kernel, whose namespace is empty" : ""
            var text = "engine \(connection.messages.engineID) could not finish \(request.words): \(end)\(rest)"
            let lines = connection.capture.map { EngineEnd(.unknown, lastLines: $0.rememberedLines).lastLines } ?? []
            if !lines.isEmpty { text += "\nThe last lines of its error output:" + lines.map { "\n    " + $0 }.joined() }
            let content = ErrorContent(
                EngineTaskError(.engineError, text), method: isExecute ? "execute" : "apply", function: nil, arguments: [],
                by: connection.messages)
            outgoing.append(connection.messages.error(content, parent: request.message.header))
            var members = content.json
            if isExecute { members.merge(["execution_count": 0, "user_expressions": [:], "payload": []]) { $1 } }
            outgoing.append(
                connection.messages.reply(
                    request.type.reply, to: request.message, on: request.channel,
                    metadata: request.metadata.reply(
                        .error, by: connection.messages.engine, started: request.started, outputs: outputs + 1),
                    content: JSONValue.object(members).packed))
        }
    }

    /// Ends the request: adds the rest of its output, then the messages of the body, then that the engine is idle.
    private mutating func end(
        outputs: Int, _ body: (inout Connection, KernelRequest, inout [OutgoingMessage], _ outputs: Int) -> Void
    ) {
        guard let current, var connection else { return }
        let outputs = outputs + (connection.capture?.end(&self.outgoing) ?? 0)
        body(&connection, current, &self.outgoing, outputs)
        if !current.metadata.isQuiet {
            self.trailing.append(connection.messages.status(.idle, parent: current.message.header))
        }
        self.connection = connection
        self.current = nil
    }

    /// Hands the collected messages to the event loop.
    mutating func flush() {
        guard !self.outgoing.isEmpty || !self.trailing.isEmpty else { return }
        self.connection?.exchange.send(&self.outgoing, trailing: self.trailing)
        self.trailing = []
    }
}

/// A request as the worker brings it.
struct KernelRequest: Sendable {
    let message: Message
    let type: MessageType
    let metadata: RequestMetadata.ForEngine
    let channel: EngineChannel
    let started = WireDate.now

    /// The request in words, for error messages: `square (task 'abc', tried 2 times)`.
    var words: String {
        let id = MessageHeader.messageID(scanning: self.message.header)?.text ?? "?"
        let tries = self.metadata.attempt == 1 ? "tried once" : "tried \(self.metadata.attempt) times"
        guard self.type == .applyRequest else { return "task '\(id)' (\(tries))" }
        var buffers = self.message.buffers.prefix(1)
        let value = (buffers.first?.readableBytes ?? .max) < 1 << 16 ? try? ObjectBuffers.deserialize(&buffers) : nil
        let function = value.flatMap { $0.referenceName ?? $0.pythonFunctionName?.name }
        return function.map { "\($0) (task '\(id)', \(tries))" } ?? "task '\(id)' (\(tries))"
    }
}

extension EngineMessages {
    /// A message that Python publishes.
    fileprivate mutating func message(_ publication: KernelFrame.Publication, parent: ByteBuffer) -> OutgoingMessage {
        let (type, topic) = (publication.type, publication.topic)
        return self.output(
            type, topic: type == .dataMessage || topic.hasPrefix("comm-") ? topic : "engine.\(self.engineID).\(topic)",
            parent: parent, metadata: publication.metadata, content: publication.content, buffers: publication.buffers)
    }
}

/// The headers of the last requests, by their numbers, which count from 1. The session counts output of older ones to the newest.
private struct KernelParents: Sendable {
    /// One more than a process may name: the newest request may not have been handed to the process yet.
    private static let limit = KernelSession.rememberedRequests + 1
    private(set) var count = 0
    private var headers: [ByteBuffer] = []

    mutating func append(_ header: ByteBuffer) {
        // A copy: the header may share its memory with a large request.
        let copy = ByteBuffer(bytes: header.readableBytesView)
        if self.count < Self.limit { self.headers.append(copy) } else { self.headers[self.count % Self.limit] = copy }
        self.count += 1
    }

    subscript(number: Int) -> ByteBuffer? {
        number >= 1 && number <= self.count && number > self.count - Self.limit ? self.headers[(number - 1) % Self.limit] : nil
    }
}
