package import NIOCore

#if canImport(Glibc)
    private import Glibc
#elseif canImport(Musl)
    private import Musl
#elseif canImport(Darwin)
    private import Darwin
#endif

/// A moment as messages carry it: microseconds, UTC, written in ISO 8601 (protocol article, "Header").
public struct WireDate: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// Microseconds since 1970 began in UTC.
    public let microseconds: Int64

    /// The moment so many microseconds after 1970 began in UTC.
    public init(microseconds: Int64) { self.microseconds = microseconds }

    /// This moment, by the machine's wall clock.
    public static var now: WireDate {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return WireDate(microseconds: Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1000)
    }

    public static func < (left: WireDate, right: WireDate) -> Bool { left.microseconds < right.microseconds }

    /// Seconds from the other moment to this one.
    public func seconds(since other: WireDate) -> Double { Double(self.microseconds - other.microseconds) / 1_000_000 }

    public var description: String {
        var buffer = ByteBuffer()
        self.write(into: &buffer)
        return String(buffer: buffer)
    }
}

// Days and calendar dates convert as in Howard Hinnant's "chrono-compatible low-level date algorithms": eras of 400 years
// that start in March, so that the leap day is the last.
extension WireDate {
    /// Writes `2026-01-02T03:04:05.678901Z`, always with six digits: Python reads no more, and older peers no fewer.
    package func write(into buffer: inout ByteBuffer) {
        let (day, inDay) = self.microseconds.quotientAndRemainder(flooring: 86_400_000_000)
        let (year, month, dayOfMonth) = Self.civil(fromDays: day)
        let (seconds, fraction) = inDay.quotientAndRemainder(dividingBy: 1_000_000)
        withUnsafeTemporaryAllocation(byteCount: 27, alignment: 1) { text in
            func put(_ value: Int64, digits: Int, at start: Int) {
                var rest = value
                for position in stride(from: start + digits - 1, through: start, by: -1) {
                    text[position] = UInt8(48 + rest % 10)
                    rest /= 10
                }
            }
            put(min(max(year, 0), 9999), digits: 4, at: 0)
            text[4] = UInt8(ascii: "-")
            put(month, digits: 2, at: 5)
            text[7] = UInt8(ascii: "-")
            put(dayOfMonth, digits: 2, at: 8)
            text[10] = UInt8(ascii: "T")
            put(seconds / 3600, digits: 2, at: 11)
            text[13] = UInt8(ascii: ":")
            put(seconds / 60 % 60, digits: 2, at: 14)
            text[16] = UInt8(ascii: ":")
            put(seconds % 60, digits: 2, at: 17)
            text[19] = UInt8(ascii: ".")
            put(fraction, digits: 6, at: 20)
            text[26] = UInt8(ascii: "Z")
            buffer.writeBytes(UnsafeRawBufferPointer(text))
        }
    }

    /// Reads `YYYY-MM-DDTHH:MM:SS[.f…](Z|±HH[:]MM)`; nil for anything else. Without a zone the date is taken as UTC.
    public init?(_ text: some StringProtocol) {
        var rest = Array(text.utf8)[...]
        func number(_ digits: Int) -> Int64? {
            guard rest.count >= digits else { return nil }
            var value: Int64 = 0
            for byte in rest.prefix(digits) {
                guard (48...57).contains(byte) else { return nil }
                value = value * 10 + Int64(byte - 48)
            }
            rest = rest.dropFirst(digits)
            return value
        }
        func take(_ bytes: UInt8...) -> Bool {
            guard let first = rest.first, bytes.contains(first) else { return false }
            rest = rest.dropFirst()
            return true
        }
        guard let year = number(4), take(45), let month = number(2), (1...12).contains(month), take(45), let day = number(2),
            (1...31).contains(day), take(84, 116, 32), let hour = number(2), hour < 24, take(58), let minute = number(2),
            minute < 60,
            take(58), let second = number(2), second < 61
        else { return nil }
        var fraction: Int64 = 0
        if take(46) {
            var scale: Int64 = 100_000
            guard rest.first.map({ (48...57).contains($0) }) == true else { return nil }
            while let byte = rest.first, (48...57).contains(byte) {
                fraction += Int64(byte - 48) * scale
                scale /= 10
                rest = rest.dropFirst()
            }
        }
        var offset: Int64 = 0
        if !take(90, 122), let sign = rest.first, sign == 43 || sign == 45 {
            rest = rest.dropFirst()
            guard let hours = number(2) else { return nil }
            _ = take(58)
            offset = (hours * 3600 + (number(2) ?? 0) * 60) * (sign == 43 ? 1 : -1)
        }
        guard rest.isEmpty else { return nil }
        let days = Self.days(year: year, month: month, day: day)
        let seconds = days * 86400 + hour * 3600 + minute * 60 + second - offset
        self.microseconds = seconds * 1_000_000 + fraction
    }

    private static func civil(fromDays days: Int64) -> (year: Int64, month: Int64, day: Int64) {
        let (era, dayOfEra) = (days + 719_468).quotientAndRemainder(flooring: 146_097)
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let marchMonth = (5 * dayOfYear + 2) / 153
        let month = marchMonth < 10 ? marchMonth + 3 : marchMonth - 9
        return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * marchMonth + 2) / 5 + 1)
    }

    private static func days(year: Int64, month: Int64, day: Int64) -> Int64 {
        let year = month <= 2 ? year - 1 : year
        let (era, yearOfEra) = year.quotientAndRemainder(flooring: 400)
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }
}

extension Int64 {
    /// Division that rounds down, so that the remainder is never negative.
    fileprivate func quotientAndRemainder(flooring divisor: Int64) -> (quotient: Int64, remainder: Int64) {
        let (quotient, remainder) = self.quotientAndRemainder(dividingBy: divisor)
        return remainder < 0 ? (quotient - 1, remainder + divisor) : (quotient, remainder)
    }
}
