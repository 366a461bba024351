public import ApusWire

/// So that the transcripts of tests can write "a" for the task of that id.
extension MessageID: ExpressibleByStringLiteral {
    public init(stringLiteral value: String) { self.init(value) }
}
