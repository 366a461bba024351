package import ApusWire

/// Decides when dask's scheduler is started and ended, and what the clients are told that ask for it.
///
/// A cluster has one scheduler at most. Clients that ask while the scheduler starts all wait for it; clients that ask while the
/// scheduler before it still ends wait for that end first, because both may want the same port.
package struct DaskScheduler<Request: Sendable>: Sendable {
    package enum Event: Sendable {
        /// A client asks for the scheduler; the arguments count only where the scheduler has to be started.
        case wanted(Request, arguments: JSONObject)
        /// A client asks to end the scheduler.
        case unwanted(Request)
        /// The process of the scheduler can be reached.
        case listening(Address)
        /// The process of the scheduler has ended, or could not be started, and why. Comes once for each `start`, as the last event of
        /// that process.
        case ended(ErrorContent)
    }

    package enum Effect: Sendable {
        /// Start the process.
        case start(arguments: JSONObject)
        /// End the process, or its start.
        case stop
        case answer(Request, Answer)
        /// Log that the scheduler has ended and nobody asked for that.
        case report(ErrorContent)
    }

    /// Where workers and clients of dask reach the scheduler.
    package struct Address: Sendable, Hashable {
        package let ip: String
        package let address: String
        package let port: Int

        package init(ip: String, address: String, port: Int) {
            self.ip = ip
            self.address = address
            self.port = port
        }
    }

    /// What a client is told.
    package enum Answer: Sendable, Hashable {
        case address(Address)
        /// The scheduler ends, or there was none.
        case stopped
        case failed(ErrorContent)
    }

    private enum State {
        /// Becomes `starting`.
        case none
        /// The process was started for these requests. Becomes `running`, `ending` or `none`.
        case starting([Request])
        /// Becomes `ending` or `none`.
        case running(Address)
        /// The process was told to end. When it has, the next one is started for these requests. Becomes `none` or `starting`.
        case ending([(request: Request, arguments: JSONObject)])
    }

    private var state = State.none

    package init() {}

    /// Whether there is a process, which ends with the controller.
    package var hasProcess: Bool { if case .none = self.state { false } else { true } }

    package mutating func handle(_ event: Event) -> [Effect] {
        switch (event, self.state) {
        case (.wanted(let request, let arguments), .none):
            self.state = .starting([request])
            return [.start(arguments: arguments)]
        case (.wanted(let request, _), .starting(let waiting)):
            self.state = .starting(waiting + [request])
            return []
        case (.wanted(let request, _), .running(let address)): return [.answer(request, .address(address))]
        case (.wanted(let request, let arguments), .ending(let waiting)):
            self.state = .ending(waiting + [(request, arguments)])
            return []

        case (.unwanted(let request), .none): return [.answer(request, .stopped)]
        case (.unwanted(let request), .starting(let waiting)):
            self.state = .ending([])
            return [.stop] + Self.refuse(waiting) + [.answer(request, .stopped)]
        case (.unwanted(let request), .running):
            self.state = .ending([])
            return [.stop, .answer(request, .stopped)]
        case (.unwanted(let request), .ending(let waiting)):
            self.state = .ending([])
            return Self.refuse(waiting.map(\.request)) + [.answer(request, .stopped)]

        case (.listening(let address), .starting(let waiting)):
            self.state = .running(address)
            return waiting.map { .answer($0, .address(address)) }
        // The process was told to end meanwhile.
        case (.listening, _): return []

        case (.ended(let error), .starting(let waiting)):
            self.state = .none
            return waiting.map { .answer($0, .failed(error)) }
        case (.ended(let error), .running):
            self.state = .none
            return [.report(error)]
        case (.ended, .ending(let waiting)):
            guard let first = waiting.first else {
                self.state = .none
                return []
            }
            self.state = .starting(waiting.map(\.request))
            return [.start(arguments: first.arguments)]
        case (.ended, .none): return []
        }
    }

    private static func refuse(_ requests: [Request]) -> [Effect] {
        let error = ErrorContent(
            name: "RuntimeError", value: "dask's scheduler was stopped by a client before it could be reached")
        return requests.map { .answer($0, .failed(error)) }
    }
}

extension DaskScheduler.Event: Equatable where Request: Equatable {}
extension DaskScheduler.Effect: Equatable where Request: Equatable {}
