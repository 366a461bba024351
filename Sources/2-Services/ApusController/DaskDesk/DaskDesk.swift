import ApusCore
package import ApusWire
import Logging
import NIOCore

/// Starts the process that is dask's scheduler; the code around the controller knows how.
package protocol DaskLauncher: Sendable {
    /// Starts the process, and returns before it runs.
    ///
    /// - Parameter arguments: Those of `distributed.Scheduler`.
    func launch(_ arguments: JSONObject) -> DaskProcess
}

/// The process of a scheduler of dask's.
package struct DaskProcess: Sendable {
    /// What happens to the process: `listening` at most once, and `ended` last.
    package let events: AsyncStream<DaskProcessEvent>
    /// Ends the process; may be called at any time.
    package let stop: @Sendable () -> Void

    package init(events: AsyncStream<DaskProcessEvent>, stop: @escaping @Sendable () -> Void) {
        self.events = events
        self.stop = stop
    }
}

package enum DaskProcessEvent: Sendable {
    case listening(ip: String, address: String, port: Int)
    case ended(ErrorContent)
}

/// Starts and ends dask's scheduler for clients (protocol article, "Dask").
final class DaskDesk {
    /// A client's request, until it is answered.
    private struct Request: Sendable {
        let message: Message
        let header: MessageHeader
    }

    private var core = DaskScheduler<Request>()
    /// Nil where no process can be started, as in a cluster in memory.
    private let launcher: (any DaskLauncher)?
    private var process: DaskProcess?
    /// Ends with the process.
    private var watch: Task<Void, Never>?

    private let session: ControllerSession
    private let registration: Outlet
    private let work: LoopTasks
    private let logger: Logger

    init(
        _ launcher: (any DaskLauncher)?, session: ControllerSession, registration: Outlet, work: LoopTasks, logger: Logger
    ) {
        self.launcher = launcher
        self.session = session
        self.registration = registration
        self.work = work
        self.logger = logger
    }

    /// Handles a client's request for the scheduler, or for its end.
    func take(_ message: Message, _ header: MessageHeader, _ content: JSONValue) {
        let request = Request(message: message, header: header)
        guard header.type == .becomeDaskRequest else { return self.handle(.unwanted(request)) }
        let arguments = content["scheduler_args"] ?? .object([:])
        guard case .object(let arguments) = arguments else {
            return self.answer(request, ErrorContent(.typeError, "scheduler_args is a dictionary, not \(arguments)").json)
        }
        self.handle(.wanted(request, arguments: arguments))
    }

    /// Ends the scheduler with the controller, and waits until it has gone.
    nonisolated(nonsending) func close() async {
        self.process?.stop()
        await self.watch?.value
    }

    private func handle(_ event: DaskScheduler<Request>.Event) {
        for effect in self.core.handle(event) {
            switch effect {
            case .start(let arguments): self.start(arguments)
            case .stop: self.process?.stop()
            case .answer(let request, .address(let address)):
                self.answer(
                    request,
                    [
                        "status": "ok", "ip": .string(address.ip), "address": .string(address.address),
                        "port": .int(address.port),
                    ])
            case .answer(let request, .stopped): self.answer(request, ["status": "ok"])
            case .answer(let request, .failed(let error)): self.answer(request, error.json)
            case .report(let error): self.logger.warning("dask's scheduler has ended: \(error.value)")
            }
        }
    }

    private func start(_ arguments: JSONObject) {
        guard let launcher else {
            let error = ErrorContent(
                .notImplementedError, "this controller cannot start programs, and dask's scheduler is one")
            return self.handle(.ended(error))
        }
        let process = launcher.launch(arguments)
        self.process = process
        self.watch = self.work.start(for: self) { desk in
            for await event in process.events { desk.processSaid(event) }
        }
    }

    private func processSaid(_ event: DaskProcessEvent) {
        switch event {
        case .listening(let ip, let address, let port):
            self.logger.info("dask's scheduler listens at \(address)")
            self.handle(.listening(.init(ip: ip, address: address, port: port)))
        case .ended(let error): self.handle(.ended(error))
        }
        // This is a turn of the loop of its own.
        self.registration.flush()
    }

    private func answer(_ request: Request, _ content: JSONObject) {
        let reply = self.session.message(
            request.header.type.reply, identities: Array(request.message.identities), parent: request.message.header,
            content: content)
        self.registration.send(reply.frames)
    }
}
