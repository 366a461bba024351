public import ApusWire

/// Lets the transcripts of tests write "a" for the task of that id.
extension MessageID: ExpressibleByStringLiteral {
    public init(stringLiteral value: String) { self.init(value) }
}
