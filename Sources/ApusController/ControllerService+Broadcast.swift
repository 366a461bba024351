import ApusCore
import ApusTransport
import ApusWire
import NIOCore

extension ControllerService {
    func takeBroadcast(_ frames: [ByteBuffer]) {}
    func handleBroadcast(_ event: SocketEvent, leaf: Int) {}
}
