import ApusController
import ApusCore
import ApusTransport
import ApusWire
import Testing

@Suite("Dask's scheduler at the controller")
struct DaskTests {
    /// Stands in for the program that starts processes.
    final class Launcher: DaskLauncher {
        struct Start: Sendable {
            let arguments: JSONObject
            let events: AsyncStream<DaskProcessEvent>.Continuation
        }

        let starts: AsyncStream<Start>
        private let begun: AsyncStream<Start>.Continuation

        init() { (self.starts, self.begun) = AsyncStream.makeStream(of: Start.self) }

        func launch(_ arguments: JSONObject) -> DaskProcess {
            let (events, continuation) = AsyncStream.makeStream(of: DaskProcessEvent.self)
            self.begun.yield(Start(arguments: arguments, events: continuation))
            return DaskProcess(events: events) {
                continuation.yield(.ended(ErrorContent(name: "RuntimeError", value: "it was ended")))
                continuation.finish()
            }
        }
    }

    @Test("Is answered for as ipyparallel's hub does, once the process listens, and ends with the controller")
    func answers() async throws {
        let launcher = Launcher()
        var starts = launcher.starts.makeAsyncIterator()
        let world = try await World(daskLauncher: launcher)
        let query = world.socket(.dealer, world.client.common.registration)
        query.send(world.message(.becomeDaskRequest, content: ["scheduler_args": ["port": 8786]]))
        let start = try #require(await starts.next())
        #expect(start.arguments == ["port": 8786])
        start.events.yield(.listening(ip: "127.0.0.1", address: "tcp://127.0.0.1:8786", port: 8786))
        let answer = try await query.next()
        #expect(answer.type == "become_dask_reply")
        #expect(answer.json == ["status": "ok", "ip": "127.0.0.1", "address": "tcp://127.0.0.1:8786", "port": 8786])
        let stopped = try await query.ask(world.message(.stopDistributedRequest))
        #expect(stopped.type == "stop_distributed_reply")
        #expect(stopped.json == ["status": "ok"])

        // The next one ends with the controller, which waits for that.
        query.send(world.message(.becomeDaskRequest))
        #expect(try #require(await starts.next()).arguments == [:])
        await world.stop()
    }

    @Test("That cannot start is answered for with the error that its process had")
    func failure() async throws {
        let launcher = Launcher()
        var starts = launcher.starts.makeAsyncIterator()
        let world = try await World(daskLauncher: launcher)
        let query = world.socket(.dealer, world.client.common.registration)
        query.send(world.message(.becomeDaskRequest))
        let start = try #require(await starts.next())
        start.events.yield(.ended(ErrorContent(name: "ModuleNotFoundError", value: "No module named 'distributed'")))
        start.events.finish()
        let answer = try await query.next()
        #expect(answer.json["status"] == "error" && answer.json["ename"] == "ModuleNotFoundError")
        let wrong = try await query.ask(world.message(.becomeDaskRequest, content: ["scheduler_args": 3]))
        #expect(wrong.json["ename"] == "TypeError")
        await world.stop()
    }
}
