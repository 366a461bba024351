/// Numbers as people read them.
extension Int {
    /// With a comma between thousands: `63,666`.
    public var grouped: String {
        let digits = String(self.magnitude)
        var text = self < 0 ? "-" : ""
        for (place, digit) in digits.enumerated() {
            if place > 0 && (digits.count - place) % 3 == 0 { text += "," }
            text.append(digit)
        }
        return text
    }
}

extension Int64 {
    /// Kibibytes as whole mebibytes.
    public var mebibytes: String { (Int(self + 512) / 1024).grouped }
}

extension Duration {
    /// Seconds with two decimals: `1.25 s`.
    public var inSeconds: String {
        let hundredths = Int((self / .milliseconds(10)).rounded())
        let rest = hundredths % 100
        return "\((hundredths / 100).grouped).\(rest < 10 ? "0" : "")\(rest) s"
    }
}
