import ApusCore
import ApusEngine
import ApusTransport
import ApusWire
import Logging
import NIOCore
import NIOPosix
import Testing

/// One engine and the test that plays its controller.
struct World {
    let controller: FakeController
    let engine: EngineService
    let running: Task<EngineEnding, Never>

    var uuid: EngineUUID { self.engine.uuid }

    /// Runs the body with an engine that has registered as engine 3 and beats.
    static func with(
        _ change: (inout EngineOptions) -> Void = { _ in }, _ body: (World) async throws -> Void
    ) async throws {
        try await self.withStarted(change) { world in
            _ = try await world.accept()
            try await body(world)
        }
    }

    /// Runs the body with an engine that was just started.
    static func withStarted(
        unbound: [String] = [], _ change: (inout EngineOptions) -> Void = { _ in }, _ body: (World) async throws -> Void
    ) async throws {
        let eventLoop = MultiThreadedEventLoopGroup.singleton.next()
        let controller = try await FakeController(on: eventLoop, unbound: unbound)
        var options = EngineOptions()
        change(&options)
        let engine = try EngineService(
            connection: controller.connection, host: "127.0.0.1", transport: controller.network, eventLoop: eventLoop,
            options: options, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        let world = World(controller: controller, engine: engine, running: Task { await engine.run() })
        do { try await body(world) } catch {
            engine.stop()
            throw error
        }
        engine.stop()
        _ = await world.running.value
        await controller.close()
    }

    /// Accepts the registration and waits for the first beat; gives the request.
    func accept(period: Int = 60_000) async throws -> Answer {
        let request = try await self.request()
        try await self.admit(period: period)
        _ = try await self.controller.nextFrames("hb_ping connected")
        #expect(try await self.beat("1.5") == "1.5")
        _ = try await self.controller.output(until: .status)
        return request
    }

    func admit(period: Int = 60_000) async throws {
        try await self.answer(["id": 3, "status": "ok", "hb_period": .int(period), "connection_info": [:]])
    }

    func request() async throws -> Answer { try await Answer(Array(self.controller.nextFrames("registration").dropFirst())) }

    func answer(_ content: JSONObject, _ type: MessageType = .registrationReply) async throws {
        try await self.controller.answerRegistrar(self.controller.makeRequest(type, to: self.uuid, content: content))
    }

    /// Sends a beat and gives what comes back from this engine.
    func beat(_ text: String) async throws -> String {
        try await self.controller.send([ByteBuffer(string: text)], by: "hb_ping")
        let pong = try await self.controller.nextFrames("hb_pong")
        try #require(pong.count == 2 && String(buffer: pong[0]) == self.uuid.text)
        return String(buffer: pong[1])
    }
}
