import ApusTransport
import ApusWire
import NIOCore

// Makes the sockets, binds each at its port, and gives the connection information that peers need.
extension ControllerService {
    func bindSockets() async throws -> (client: ClientConnectionInfo, engine: EngineConnectionInfo) {
        var pools = PortPools(self.options)
        var ports: [ControllerSocket: Int] = [:]
        for name in ControllerSocket.bindingOrder { ports[name] = try await self.bind(name, &pools) }
        var leafPorts: [Int] = []
        for leaf in self.outlets.leaves.indices { leafPorts.append(try await self.bindLeaf(leaf, &pools)) }
        for name in ControllerSocket.clientBindingOrder { ports[name] = try await self.bind(name, &pools) }

        func common(_ address: String, ssh: String) -> ConnectionCommon {
            ConnectionCommon(
                interface: HostAddress.interface(address), registration: ports[.registration] ?? 0, key: self.key,
                signatureScheme: self.options.signatureScheme, location: self.options.location, ssh: ssh)
        }
        let client = ClientConnectionInfo(
            common: common(self.options.clientAddress, ssh: self.options.clientSSH), control: ports[.controlClient] ?? 0,
            mux: ports[.muxClient] ?? 0, task: ports[.taskClient] ?? 0, iopub: ports[.iopubClient] ?? 0,
            notification: ports[.notification] ?? 0, broadcast: ports[.broadcastClient], taskScheme: self.options.scheme)
        let engine = EngineConnectionInfo(
            common: common(self.options.engineAddress, ssh: self.options.engineSSH), control: ports[.controlEngine] ?? 0,
            mux: ports[.muxEngine] ?? 0, task: ports[.taskEngine] ?? 0, iopub: ports[.iopubEngine] ?? 0,
            heartbeatPing: ports[.heartbeatPing] ?? 0, heartbeatPong: ports[.heartbeatPong] ?? 0, broadcast: leafPorts)
        return (client, engine)
    }

    private func bind(_ name: ControllerSocket, _ pools: inout PortPools) async throws -> Int {
        let socket = self.transport.makeSocket(name.role, options: self.socketOptions(name, name.identity), on: self.eventLoop) {
            [weak self] event in
            self?.assumeIsolated { $0.handle(event, at: name) }
        }
        self.outlets[name]?.open(socket)
        // Engines and clients use the same registration port, so with two addresses the port is bound on every interface.
        let (engines, clients) = (self.options.engineAddress, self.options.clientAddress)
        let sharesRegistration = name == .registration && clients != engines
        // Where one of them is an IPv6 address, every interface includes those of IPv6.
        let all = (engines + clients).contains(":") ? "::" : "*"
        let address = sharesRegistration ? all : name.isForEngines ? engines : clients
        return try await socket.bind(to: Endpoint(host: address, port: pools.next(forEngines: name.isForEngines))).port
    }

    private func bindLeaf(_ leaf: Int, _ pools: inout PortPools) async throws -> Int {
        let options = self.socketOptions(.broadcastEngine, "sub_scheduler_\(leaf)")
        let socket = self.transport.makeSocket(.router, options: options, on: self.eventLoop) {
            [weak self] event in
            self?.assumeIsolated { $0.handle(event, atLeaf: leaf) }
        }
        self.outlets.leaves[leaf].open(socket)
        return try await socket.bind(to: Endpoint(host: self.options.engineAddress, port: pools.next(forEngines: true))).port
    }

    /// The limits of a socket: how large its peers' messages may be, and how much may wait for a peer that does not read.
    private func socketOptions(_ name: ControllerSocket, _ identity: String) -> SocketOptions {
        var options = SocketOptions(identity: ByteBuffer(string: identity))
        if name == .heartbeatPong {
            // A time in digits and a signature.
            options.limits = MessageLimits(known: Self.largestPong, strangers: Self.largestPong) { _ in false }
        } else {
            let largest = self.options.maximumMessageSize ?? MessageSize.standard
            options.limits = MessageLimits(known: largest, strangers: MessageSize.strangers) { [weak self] frames in
                self?.assumeIsolated { $0.gate.areKnown(frames) } ?? false
            }
        }
        if !name.isForEngines || name == .registration {
            options.unreadByteLimit = self.options.maximumUnread ?? MessageSize.unread
        }
        return options
    }

    private static let largestPong = 1024
}
