package import ApusWire

/// A request to an engine other than a task, from a client or the controller (protocol article, "Control messages").
package enum ControlRequest: Sendable, Equatable {
    case abort(Abortion)
    /// Apus only: abort these requests, and interrupt the one that runs if it is one of them.
    case abortAndInterrupt([MessageID])
    /// Apus only: give back these tasks if they have not started.
    case recall([MessageID])
    /// Apus only: say which requests are held here, and repeat the answers to these, for a controller that took the place of another.
    case report([MessageID])
    /// Apus only: the controller gets heartbeats of this uuid and has no such engine: it gave the engine up, or only an earlier
    /// controller knew it.
    case registerAgain(EngineUUID)
    case clear
    case shutdown(restart: Bool)
    case signal(EngineSignal)
    case interrupt
    case kernelInfo
}

/// The requests that an `abort_request` aborts.
package enum Abortion: Sendable, Equatable {
    case requests([MessageID])
    /// An empty list of ids: the `execute_request`s that wait, as in Python's engines.
    case queuedExecutes
    /// An empty list with `apus_all`: all requests that wait.
    case everythingQueued
}

/// A signal that a client sends to an engine.
package enum EngineSignal: Sendable, Equatable {
    case interrupt
    case terminate
    case kill
    case other(Int32)
    case unknown(String)
}

/// An engine's answer to a control request.
package enum ControlReply: Sendable, Equatable {
    package enum Kind: Sendable, Equatable {
        case abort, clear, signal, interrupt

        package var type: MessageType {
            switch self {
            case .abort: .abortReply
            case .clear: .clearReply
            // Python's engines answer with this type by mistake, and their clients match replies by parent, not by type.
            case .signal: MessageType(rawValue: "_request")
            case .interrupt: MessageType(rawValue: "interrupt_reply")
            }
        }
    }

    case ok(Kind)
    case error(Kind, ErrorContent)
    case shutdown(restart: Bool)
    case kernelInfo
}

// MARK: - Reading

extension ControlRequest {
    /// Reads a control request; nil for a type that engines do not answer.
    package init?(_ type: MessageType, content: JSONValue) {
        switch type {
        case .abortRequest:
            let ids = Self.messageIDs(in: content)
            if ids.isEmpty {
                self = .abort(content[ApusMember.all]?.bool == true ? .everythingQueued : .queuedExecutes)
            } else if content[ApusMember.running]?.bool == true {
                self = .abortAndInterrupt(ids)
            } else {
                self = .abort(.requests(ids))
            }
        case .recallRequest: self = .recall(Self.messageIDs(in: content))
        case .reportRequest: self = .report(Self.messageIDs(in: content))
        case .registerAgainRequest:
            guard let uuid = content["uuid"]?.string else { return nil }
            self = .registerAgain(EngineUUID(uuid))
        case .clearRequest: self = .clear
        case .shutdownRequest: self = .shutdown(restart: content["restart"]?.bool ?? false)
        case .signalRequest: self = .signal(EngineSignal(content["sig"]))
        case .interruptRequest: self = .interrupt
        case .kernelInfoRequest: self = .kernelInfo
        default: return nil
        }
    }

    /// The ids that `msg_ids` names: a list of them, or one by itself.
    package static func messageIDs(in content: JSONValue) -> [MessageID] {
        switch content["msg_ids"] {
        case .string(let id): [MessageID(id)]
        case .array(let ids): ids.compactMap { $0.string.map { MessageID($0) } }
        default: []
        }
    }
}

extension EngineSignal {
    /// Signals whose numbers are the same on Linux and macOS, by name without `SIG`, which a request may add.
    private static let numbers: [String: Int32] = ["HUP": 1, "INT": 2, "QUIT": 3, "ABRT": 6, "KILL": 9, "TERM": 15]

    init(_ value: JSONValue?) {
        switch value {
        case .int(let number):
            if let number = Int32(exactly: number), (0...64).contains(number) {
                self.init(number: number)
            } else {
                self = .unknown(String(number))
            }
        case .string(let name):
            let short = name.hasPrefix("SIG") ? String(name.dropFirst(3)) : name
            if let number = Self.numbers[short] ?? Self.platformNumber(short) {
                self.init(number: number)
            } else {
                self = .unknown(name)
            }
        default: self = .unknown(value.map { $0.description } ?? "null")
        }
    }

    private init(number: Int32) {
        switch number {
        case 2: self = .interrupt
        case 9: self = .kill
        case 15: self = .terminate
        default: self = .other(number)
        }
    }

    private static func platformNumber(_ name: String) -> Int32? {
        #if os(Linux)
            ["USR1": 10, "USR2": 12, "CONT": 18, "STOP": 19][name]
        #else
            ["USR1": 30, "USR2": 31, "CONT": 19, "STOP": 17][name]
        #endif
    }
}
