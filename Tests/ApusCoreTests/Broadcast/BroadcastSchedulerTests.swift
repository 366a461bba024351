import ApusCore
import ApusTestKit
import ApusWire
import Testing

@Suite("The broadcast scheduler")
struct BroadcastSchedulerTests {
    private typealias Target = BroadcastRequest.Target
    private let request = MessageID("m")
    private let ada = Target(EngineUUID("ada"), 0)
    private let bob = Target(EngineUUID("bob"), 1)
    private let eve = Target(EngineUUID("eve"), 2)
    private let kim = Target(EngineUUID("kim"), 3)

    private func scheduler(_ position: BroadcastScheduler.Position = .alone, _ engines: Target...) -> BroadcastScheduler {
        var scheduler = BroadcastScheduler(position)
        for engine in engines { _ = scheduler.handle(.engineJoined(engine.uuid)) }
        return scheduler
    }

    private func copy(_ target: Target) -> BroadcastScheduler.Effect {
        .forward(.init(outlet: .engine(target.uuid), id: MessageID("m_\(target.uuid)"), targets: nil), of: self.request)
    }

    private func reply(_ target: Target) -> BroadcastScheduler.Event {
        .replied(BroadcastReply(to: self.request, from: .engine(target.uuid), isCoalescing: true))
    }

    private func keep(_ target: Target) -> BroadcastScheduler.Effect { .keep(self.request, from: .engine(target.uuid)) }

    private func gather(_ parts: [Target], last: Target, asPairs: Bool = true) -> BroadcastScheduler.Effect {
        .gather(
            .init(
                request: self.request, parts: parts.map { .engine($0.uuid) }, last: .engine(last.uuid), targets: parts,
                asPairs: asPairs))
    }

    @Test("Each target gets a message of its own id; plain replies pass")
    func plain() {
        var scheduler = self.scheduler(.alone, self.ada, self.bob)
        let request = BroadcastRequest(self.request, to: [self.ada, self.bob], isCoalescing: false)
        #expect(scheduler.handle(.requested(request)) == [self.copy(self.ada), self.copy(self.bob)])
        let reply = BroadcastReply(to: self.request, from: .engine(self.ada.uuid), isCoalescing: false)
        #expect(scheduler.handle(.replied(reply)) == [.relay])
        #expect(scheduler.pendingCount == 1)
        let last = BroadcastReply(to: self.request, from: .engine(self.bob.uuid), isCoalescing: false)
        #expect(scheduler.handle(.replied(last)) == [.relay])
        #expect(scheduler.pendingCount == 0)
    }

    @Test("A client that waits for the request itself has its answer before the last copy's reply, and once")
    func ownReply() {
        var scheduler = self.scheduler(.alone, self.ada, self.bob)
        let request = BroadcastRequest(self.request, to: [self.ada, self.bob], isCoalescing: false, awaitsOwnReply: true)
        #expect(scheduler.handle(.requested(request)) == [self.copy(self.ada), self.copy(self.bob)])
        #expect(scheduler.handle(.requested(request)) == [.refuse(self.request)])
        let first = BroadcastReply(to: self.request, from: .engine(self.ada.uuid), isCoalescing: false)
        let last = BroadcastReply(to: self.request, from: .engine(self.bob.uuid), isCoalescing: false)
        #expect(scheduler.handle(.replied(first)) == [.relay])
        #expect(scheduler.handle(.replied(first)) == [.relay])
        #expect(scheduler.handle(.replied(last)) == [.close(self.request), .relay])
        #expect(scheduler.handle(.replied(last)) == [.relay])
        #expect(scheduler.pendingCount == 0)
    }

    @Test("A plain broadcast does not wait for an engine that leaves, or was gone")
    func targetOfPlainLeaves() {
        var scheduler = self.scheduler(.alone, self.ada, self.bob)
        let request = BroadcastRequest(
            self.request, to: [self.ada, self.bob, self.eve], isCoalescing: false, awaitsOwnReply: true)
        _ = scheduler.handle(.requested(request))
        let reply = BroadcastReply(to: self.request, from: .engine(self.ada.uuid), isCoalescing: false)
        #expect(scheduler.handle(.replied(reply)) == [.relay])
        #expect(scheduler.handle(.engineLeft(self.bob.uuid)) == [.close(self.request)])
        let toNobody = BroadcastRequest(self.request, to: [self.eve], isCoalescing: false, awaitsOwnReply: true)
        #expect(scheduler.handle(.requested(toNobody)) == [self.copy(self.eve), .close(self.request)])
        #expect(scheduler.pendingCount == 0)
    }

    @Test(
        "An id whose plain replies are not all in is refused; an engine that leaves is not waited for, one named twice runs it once"
    )
    func plainIsUnderWay() {
        var scheduler = self.scheduler(.alone, self.ada, self.bob)
        let request = BroadcastRequest(self.request, to: [self.ada, self.bob, self.ada], isCoalescing: false)
        #expect(scheduler.handle(.requested(request)) == [self.copy(self.ada), self.copy(self.bob)])
        #expect(scheduler.handle(.requested(request)) == [.refuse(self.request)])
        let reply = BroadcastReply(to: self.request, from: .engine(self.ada.uuid), isCoalescing: false)
        #expect(scheduler.handle(.replied(reply)) == [.relay])
        #expect(scheduler.handle(self.reply(self.bob)) == [])
        #expect(scheduler.handle(.requested(request)) == [.refuse(self.request)])
        #expect(scheduler.handle(.engineLeft(self.bob.uuid)) == [])
        #expect(scheduler.pendingCount == 0)
        // Where no engine will answer there is nothing to wait for.
        let nobody = BroadcastRequest(self.request, to: [self.bob], isCoalescing: false)
        #expect(scheduler.handle(.requested(nobody)) == [self.copy(self.bob)])
        #expect(scheduler.pendingCount == 0)
    }

    @Test("A coalesced reply comes when all have answered: header of the last, buffers in target order")
    func coalescing() {
        var scheduler = self.scheduler(.alone, self.ada, self.bob)
        let request = BroadcastRequest(self.request, to: [self.bob, self.ada], isCoalescing: true)
        #expect(scheduler.handle(.requested(request)) == [self.copy(self.bob), self.copy(self.ada)])
        #expect(scheduler.handle(.requested(request)) == [.refuse(self.request)])
        #expect(scheduler.handle(self.reply(self.bob)) == [self.keep(self.bob)])
        #expect(scheduler.handle(self.reply(self.bob)) == [])
        #expect(
            scheduler.handle(self.reply(self.ada)) == [
                self.keep(self.ada), self.gather([self.bob, self.ada], last: self.ada),
            ])
        #expect(scheduler.handle(self.reply(self.ada)) == [])
        #expect(scheduler.strayReplies == 2)
    }

    @Test("When a target leaves, the answer is an error at once")
    func targetLeaves() {
        var scheduler = self.scheduler(.alone, self.ada, self.bob)
        _ = scheduler.handle(.requested(.init(self.request, to: [self.ada, self.bob], isCoalescing: true)))
        #expect(scheduler.handle(self.reply(self.ada)) == [self.keep(self.ada)])
        #expect(scheduler.handle(.engineLeft(self.bob.uuid)) == [.fail(self.request, [self.ada, self.bob])])
        #expect(scheduler.pendingCount == 0)
    }

    @Test("A target that is gone before the request is an error too")
    func targetWasGone() {
        var scheduler = self.scheduler(.alone, self.ada)
        #expect(
            scheduler.handle(.requested(.init(self.request, to: [self.bob, self.ada], isCoalescing: true))) == [
                self.copy(self.bob), self.copy(self.ada), .fail(self.request, [self.bob, self.ada]),
            ])
        #expect(scheduler.pendingCount == 0)
    }

    @Test("With nobody left to answer, the answer is an error")
    func nobodyLeft() {
        var scheduler = self.scheduler(.alone, self.ada)
        _ = scheduler.handle(.requested(.init(self.request, to: [self.ada], isCoalescing: true)))
        #expect(scheduler.handle(.engineLeft(self.ada.uuid)) == [.fail(self.request, [self.ada])])
        #expect(
            scheduler.handle(.requested(.init(self.request, to: [self.ada], isCoalescing: true))) == [
                self.copy(self.ada), .fail(self.request, [self.ada]),
            ])
    }

    @Test("A root splits the targets between its children by the bits of their ids")
    func root() {
        var root = self.scheduler(.node(path: "0", depth: 2))
        let all = [self.ada, self.bob, self.eve, self.kim]
        #expect(
            root.handle(.requested(.init(self.request, to: all, isCoalescing: true))) == [
                .forward(
                    .init(outlet: .scheduler("00"), id: MessageID("m_sub_scheduler_00"), targets: [self.ada, self.bob]),
                    of: self.request),
                .forward(
                    .init(outlet: .scheduler("01"), id: MessageID("m_sub_scheduler_01"), targets: [self.eve, self.kim]),
                    of: self.request),
            ])
        let right = BroadcastReply(
            to: self.request, from: .scheduler("01"), isCoalescing: true, targets: [self.eve.uuid, self.kim.uuid])
        #expect(root.handle(.replied(right)) == [.keep(self.request, from: .scheduler("01"))])
        // Ada is gone: the left child answers for Bob alone.
        let left = BroadcastReply(to: self.request, from: .scheduler("00"), isCoalescing: true, targets: [self.bob.uuid])
        #expect(
            root.handle(.replied(left)) == [
                .keep(self.request, from: .scheduler("00")),
                .gather(
                    .init(
                        request: self.request, parts: [.scheduler("00"), .scheduler("01")], last: .scheduler("00"),
                        targets: [self.bob, self.eve, self.kim], asPairs: true)),
            ])
    }

    @Test("A child without targets gets no message")
    func emptyShare() {
        var root = self.scheduler(.node(path: "0", depth: 1))
        #expect(
            root.handle(.requested(.init(self.request, to: [self.bob], isCoalescing: false))) == [
                .forward(
                    .init(outlet: .scheduler("01"), id: MessageID("m_sub_scheduler_01"), targets: [self.bob]), of: self.request)
            ])
    }

    @Test("A leaf of a tree names its targets by uuid alone")
    func leaf() {
        var leaf = self.scheduler(.node(path: "00", depth: 1), self.ada, self.eve)
        #expect(
            leaf.handle(.requested(.init(self.request, to: [self.eve, self.ada], isCoalescing: true))) == [
                self.copy(self.eve), self.copy(self.ada),
            ])
        _ = leaf.handle(self.reply(self.ada))
        #expect(
            leaf.handle(self.reply(self.eve)) == [
                self.keep(self.eve), self.gather([self.eve, self.ada], last: self.eve, asPairs: false),
            ])
    }
}
