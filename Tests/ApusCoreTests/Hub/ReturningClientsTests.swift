import ApusCore
import NIOCore
import Testing

@Suite("Clients that come back to another controller")
struct ReturningClientsTests {
    private let one = ByteBuffer(string: "1")
    private let two = ByteBuffer(string: "2")

    @Test("An answer goes to every connection whose client is not known, and waits for those to come")
    func unknown() {
        var clients = ReturningClients<String>()
        #expect(clients.connected(self.one) == [])
        #expect(clients.take("a", byteCount: 1, for: "ada") == [self.one])
        #expect(clients.connected(self.two) == ["a"])
        #expect(clients.take("b", byteCount: 1, for: "bob") == [self.one, self.two])
    }

    @Test("A client that has sent something gets its own answers, and no others")
    func known() {
        var clients = ReturningClients<String>()
        _ = clients.connected(self.one)
        clients.spoke(self.one, as: "ada")
        #expect(clients.take("a", byteCount: 1, for: "ada") == [self.one])
        #expect(clients.take("b", byteCount: 1, for: "bob") == [])
        #expect(clients.connected(self.two) == ["b"])
        clients.spoke(self.two, as: "bob")
        // Nothing is held any more.
        #expect(clients.connected(ByteBuffer(string: "3")) == [])
    }

    @Test("A client that has gone again is sent its answers when it comes back")
    func gone() {
        var clients = ReturningClients<String>()
        _ = clients.connected(self.one)
        clients.spoke(self.one, as: "ada")
        clients.disconnected(self.one)
        #expect(clients.take("a", byteCount: 1, for: "ada") == [])
        #expect(clients.connected(self.two) == ["a"])
    }

    @Test("Answers are held within a limit, and not for ever")
    func limit() {
        var clients = ReturningClients<String>(byteLimit: 10)
        for answer in ["a", "b", "c"] { _ = clients.take(answer, byteCount: 4, for: "ada") }
        #expect(clients.connected(self.one) == ["b", "c"])
        clients.giveUp()
        #expect(clients.connected(self.two) == [])
        // A later answer goes to those that are there, and waits for nobody.
        #expect(clients.take("d", byteCount: 4, for: "ada") == [self.one, self.two])
        #expect(clients.connected(ByteBuffer(string: "3")) == [])
    }
}
