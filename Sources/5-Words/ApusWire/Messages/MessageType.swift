/// The type of a message (`msg_type` on the wire). A peer may use types that are not named here.
public struct MessageType: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    public let rawValue: String

    public init(rawValue: String) { self.rawValue = rawValue }
    private init(_ rawValue: String) { self.rawValue = rawValue }

    public var description: String { self.rawValue }

    /// The type that answers a request of this type: `apply_request` is answered by `apply_reply`.
    package var reply: MessageType {
        guard self.rawValue.hasSuffix("_request") else { return MessageType(self.rawValue + "_reply") }
        return MessageType(self.rawValue.dropLast("_request".count) + "_reply")
    }
}

extension MessageType {
    // Shell
    package static let applyRequest = MessageType("apply_request")
    package static let applyReply = MessageType("apply_reply")
    package static let executeRequest = MessageType("execute_request")
    package static let executeReply = MessageType("execute_reply")
    package static let kernelInfoRequest = MessageType("kernel_info_request")
    package static let commOpen = MessageType("comm_open")
    package static let commMessage = MessageType("comm_msg")
    package static let commClose = MessageType("comm_close")

    /// Whether an engine answers a message of this type.
    package var isAnswered: Bool { self != .commOpen && self != .commMessage && self != .commClose }

    // Control
    package static let abortRequest = MessageType("abort_request")
    package static let abortReply = MessageType("abort_reply")
    package static let clearRequest = MessageType("clear_request")
    package static let clearReply = MessageType("clear_reply")
    package static let shutdownRequest = MessageType("shutdown_request")
    package static let shutdownReply = MessageType("shutdown_reply")
    package static let signalRequest = MessageType("signal_request")
    package static let interruptRequest = MessageType("interrupt_request")
    /// Apus only: a scheduler asks an engine to give back tasks that it has not started.
    package static let recallRequest = MessageType("apus_recall_request")
    package static let recallReply = MessageType("apus_recall_reply")

    /// Apus only: a controller that took the place of another asks an engine which requests it holds.
    package static let reportRequest = MessageType("apus_report_request")
    package static let reportReply = MessageType("apus_report_reply")

    /// Apus only: the controller tells an engine that beats and is not registered to register again.
    package static let registerAgainRequest = MessageType("apus_register_again_request")

    /// Apus only: an engine tells the scheduler that a task waits for tasks of its own, or goes on.
    package static let waitNotice = MessageType("apus_wait_notice")

    /// Apus only: an engine's process tells the scheduler that it ends, and how.
    package static let engineEnded = MessageType("apus_engine_ended")

    // Hub
    package static let registrationRequest = MessageType("registration_request")
    package static let registrationReply = MessageType("registration_reply")
    package static let unregistrationRequest = MessageType("unregistration_request")
    /// Apus only: an engine tells which functions it has now, after it loaded a library.
    package static let functionsRequest = MessageType("apus_functions_request")
    package static let functionsReply = MessageType("apus_functions_reply")
    package static let connectionRequest = MessageType("connection_request")
    package static let connectionReply = MessageType("connection_reply")
    package static let queueRequest = MessageType("queue_request")
    package static let loadRequest = MessageType("load_request")
    /// Apus only: how long the controller has run, and its version.
    package static let uptimeRequest = MessageType("apus_uptime_request")
    package static let resultRequest = MessageType("result_request")
    package static let historyRequest = MessageType("history_request")
    package static let databaseRequest = MessageType("db_request")
    package static let purgeRequest = MessageType("purge_request")
    package static let resubmitRequest = MessageType("resubmit_request")
    package static let becomeDaskRequest = MessageType("become_dask_request")
    package static let stopDistributedRequest = MessageType("stop_distributed_request")
    package static let hubError = MessageType("hub_error")
    package static let registrationNotification = MessageType("registration_notification")
    package static let unregistrationNotification = MessageType("unregistration_notification")
    package static let shutdownNotification = MessageType("shutdown_notification")

    // IOPub
    package static let status = MessageType("status")
    package static let stream = MessageType("stream")
    package static let executeInput = MessageType("execute_input")
    package static let executeResult = MessageType("execute_result")
    package static let displayData = MessageType("display_data")
    package static let error = MessageType("error")
    package static let dataMessage = MessageType("data_message")
}
