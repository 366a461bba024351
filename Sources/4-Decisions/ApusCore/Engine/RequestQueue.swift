package import ApusWire
internal import DequeModule

/// The requests that an engine has taken and not started, and which ids it must not start.
///
/// A value, generic over what a request is: the engine keeps messages here as they came, unread, under a lock that its event
/// loop and its worker share. Requests run one at a time, in the order they came.
package struct RequestQueue<Request> {
    /// Oldest first.
    private var waiting: Deque<Request> = []
    /// Aborted before they came. Ids of tasks that ended elsewhere stay until newer ones push them out.
    private var abortedEarly: Set<MessageID> = []
    /// The same ids, oldest first.
    private var abortedInOrder: Deque<MessageID> = []
    /// Whether a request was handed out and is not answered.
    package private(set) var isRunning = false
    /// Whether requests are taken no more.
    package private(set) var isClosed = false

    private let abortedLimit: Int

    package init(abortedLimit: Int = 10_000) { self.abortedLimit = abortedLimit }

    package var isEmpty: Bool { self.waiting.isEmpty }
    package var count: Int { self.waiting.count }

    /// Takes requests in, unless closed.
    package mutating func append(contentsOf requests: some Sequence<Request>) {
        if !self.isClosed { self.waiting.append(contentsOf: requests) }
    }

    /// The next request to run, nil when none waits. The one before it counts as answered.
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

    /// Takes out what waits and satisfies the condition, in order.
    package mutating func takeOut(where isMeant: (Request) -> Bool) -> [Request] {
        var taken: [Request] = []
        var kept: Deque<Request> = []
        for request in self.waiting {
            if isMeant(request) { taken.append(request) } else { kept.append(request) }
        }
        self.waiting = kept
        return taken
    }

    /// Remembers ids that must not be started when they come.
    package mutating func abortEarly(_ ids: some Sequence<MessageID>) {
        for id in ids where self.abortedEarly.insert(id).inserted {
            self.abortedInOrder.append(id)
            if self.abortedInOrder.count > self.abortedLimit, let oldest = self.abortedInOrder.popFirst() {
                self.abortedEarly.remove(oldest)
            }
        }
    }

    /// Whether a request of that id must be answered as aborted; it is forgotten with that.
    package mutating func consumeAbortion(of id: MessageID) -> Bool {
        guard self.abortedEarly.remove(id) != nil else { return false }
        self.abortedInOrder.removeAll { $0 == id }
        return true
    }

    /// Takes no more requests, and drops those that wait: the hub is told that their engine is gone.
    package mutating func close() {
        self.isClosed = true
        self.waiting.removeAll()
    }
}

extension RequestQueue: Sendable where Request: Sendable {}
