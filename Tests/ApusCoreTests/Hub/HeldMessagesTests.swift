import ApusCore
import NIOCore
import Testing

@Suite("Messages for engines whose connections are not there")
struct HeldMessagesTests {
    private let ada = ByteBuffer(string: "ada")
    private let bob = ByteBuffer(string: "bob")

    private func message(to engine: ByteBuffer, _ text: String) -> [ByteBuffer] { [engine, ByteBuffer(string: text)] }

    @Test("What is for a registered engine waits until the engine is connected, and leaves in order")
    func waits() throws {
        var messages = HeldMessages()
        #expect(messages.handle(.registered(self.ada)) == [])
        #expect(messages.hold(self.message(to: self.ada, "first")) == true)
        #expect(messages.hold(self.message(to: self.ada, "second")) == true)
        try messages.checkInvariants()
        #expect(
            messages.handle(.connected(self.ada))
                == [self.message(to: self.ada, "first"), self.message(to: self.ada, "second")])
        #expect(messages.hold(self.message(to: self.ada, "third")) == false, "it is there now")
        try messages.checkInvariants()
    }

    @Test("An engine that was connected before it was registered waits for nothing")
    func isConnected() throws {
        var messages = HeldMessages()
        #expect(messages.handle(.connected(self.ada)) == [])
        #expect(messages.handle(.registered(self.ada)) == [])
        #expect(messages.hold(self.message(to: self.ada, "first")) == false)
        try messages.checkInvariants()
    }

    @Test("A connection that is lost and comes back costs no message that was sent between")
    func comesBack() throws {
        var messages = HeldMessages()
        for event in [HeldMessages.Event.connected(self.ada), .registered(self.ada), .disconnected(self.ada)] {
            #expect(messages.handle(event) == [])
        }
        #expect(messages.hold(self.message(to: self.ada, "first")) == true)
        // Told twice: by the one who closed it, and by the socket.
        #expect(messages.handle(.disconnected(self.ada)) == [])
        #expect(messages.handle(.connected(self.ada)) == [self.message(to: self.ada, "first")])
        try messages.checkInvariants()
    }

    @Test("Nothing is held for those who are not registered, nor any longer than they are")
    func strangers() throws {
        var messages = HeldMessages()
        #expect(messages.handle(.registered(self.ada)) == [])
        #expect(messages.hold(self.message(to: self.bob, "first")) == false)
        #expect(messages.hold(self.message(to: self.ada, "first")) == true)
        #expect(messages.handle(.withdrawn(self.ada)) == [])
        #expect(messages.hold(self.message(to: self.ada, "second")) == false)
        #expect(messages.handle(.disconnected(self.ada)) == [])
        #expect(messages.handle(.connected(self.ada)) == [], "what was held went with the registration")
        try messages.checkInvariants()
    }
}
