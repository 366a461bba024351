package import ApusWire
internal import DequeModule

/// The requests that an engine has taken and not started, and the ids that it must not start.
///
/// A value, generic over the type of a request: the engine keeps messages here as they came, unread, under a lock that its event
/// loop and its worker share. Requests run one at a time, in the order they came.
package struct RequestQueue<Request> {
    /// The requests that have not started, oldest first.
    private var waiting: Deque<Request> = []
    /// Ids that were aborted before their requests came. Ids of tasks that ended elsewhere stay until newer ones push them out.
    private var abortedEarly: Set<MessageID> = []
    /// The same ids, oldest first.
    private var abortedInOrder: Deque<MessageID> = []
    /// Whether a request was handed out and is not answered.
    package private(set) var isRunning = false
    /// Whether no more requests are taken.
    package private(set) var isClosed = false

    private let abortedLimit: Int

    package init(abortedLimit: Int = 10_000) { self.abortedLimit = abortedLimit }

    package var isEmpty: Bool { self.waiting.isEmpty }
    package var count: Int { self.waiting.count }

    /// The requests that wait, oldest first.
    package var requests: [Request] { Array(self.waiting) }

    /// Adds requests, unless the queue is closed.
    package mutating func append(contentsOf requests: some Sequence<Request>) {
        if !self.isClosed { self.waiting.append(contentsOf: requests) }
    }

    /// The next request to run; nil when none waits. The request handed out before counts as answered.
    ///
    /// `mayBeAborted` tells whether to ask ``consumeAbortion(of:)`` once the request's id is known.
    package mutating func next() -> (request: Request, mayBeAborted: Bool)? {
        guard let request = self.waiting.popFirst() else {
            self.isRunning = false
            return nil
        }
        self.isRunning = true
        return (request, !self.abortedEarly.isEmpty)
    }

    /// Removes the waiting requests that satisfy the condition, and gives them in order.
    package mutating func takeOut(where isMeant: (Request) -> Bool) -> [Request] {
        var taken: [Request] = []
        var kept: Deque<Request> = []
        for request in self.waiting {
            if isMeant(request) { taken.append(request) } else { kept.append(request) }
        }
        self.waiting = kept
        return taken
    }

    /// Remembers ids whose requests must not be started when they come.
    package mutating func abortEarly(_ ids: some Sequence<MessageID>) {
        for id in ids where self.abortedEarly.insert(id).inserted {
            self.abortedInOrder.append(id)
            if self.abortedInOrder.count > self.abortedLimit, let oldest = self.abortedInOrder.popFirst() {
                self.abortedEarly.remove(oldest)
            }
        }
    }

    /// Whether a request of that id must be answered as aborted. Forgets the id.
    package mutating func consumeAbortion(of id: MessageID) -> Bool {
        guard self.abortedEarly.remove(id) != nil else { return false }
        self.abortedInOrder.removeAll { $0 == id }
        return true
    }

    /// Takes no more requests, and drops the waiting ones: the hub answers them when it learns that the engine is gone.
    package mutating func close() {
        self.isClosed = true
        self.waiting.removeAll()
    }
}

extension RequestQueue: Sendable where Request: Sendable {}
