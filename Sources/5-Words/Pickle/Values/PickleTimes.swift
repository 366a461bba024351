/// A day of the Gregorian calendar, as Python's `datetime.date`.
public struct PickleDate: Sendable, Hashable {
    /// From 1 to 9999 in Python.
    public var year: Int
    /// From 1.
    public var month: Int
    /// Of the month, from 1.
    public var day: Int

    /// A day, whose parts are taken as they are.
    public init(year: Int, month: Int, day: Int) {
        self.year = year
        self.month = month
        self.day = day
    }

    /// Days since 1 January 1970.
    var daysSince1970: Int {
        // Years begin in March, so that the leap day ends one; 400 of them always have 146097 days.
        let year = self.month <= 2 ? self.year - 1 : self.year
        let cycle = year.dividedDown(by: 400)
        let yearOfCycle = year - cycle * 400
        let dayOfYear = (153 * (self.month + (self.month > 2 ? -3 : 9)) + 2) / 5 + self.day - 1
        return cycle * 146_097 + yearOfCycle * 365 + yearOfCycle / 4 - yearOfCycle / 100 + dayOfYear - 719_468
    }

    init(daysSince1970 days: Int) {
        let days = days + 719_468
        let cycle = days.dividedDown(by: 146_097)
        let dayOfCycle = days - cycle * 146_097
        let yearOfCycle = (dayOfCycle - dayOfCycle / 1460 + dayOfCycle / 36524 - dayOfCycle / 146_096) / 365
        let dayOfYear = dayOfCycle - (365 * yearOfCycle + yearOfCycle / 4 - yearOfCycle / 100)
        let month = (5 * dayOfYear + 2) / 153
        self.month = month < 10 ? month + 3 : month - 9
        self.day = dayOfYear - (153 * month + 2) / 5 + 1
        self.year = yearOfCycle + cycle * 400 + (self.month <= 2 ? 1 : 0)
    }
}

/// A time of day, as Python's `datetime.time`.
public struct PickleTime: Sendable, Hashable {
    /// From 0 to 23.
    public var hour: Int
    /// From 0 to 59.
    public var minute: Int
    /// From 0 to 59.
    public var second: Int
    /// From 0 to 999,999.
    public var microsecond: Int
    /// Whether this is the second of two equal readings, when clocks are put back.
    public var isFolded: Bool
    /// The time's zone; nil for a time without one.
    public var zone: PickleTimeZone?

    /// A time of day, whose parts are taken as they are.
    public init(
        hour: Int, minute: Int = 0, second: Int = 0, microsecond: Int = 0, isFolded: Bool = false, zone: PickleTimeZone? = nil
    ) {
        self.hour = hour
        self.minute = minute
        self.second = second
        self.microsecond = microsecond
        self.isFolded = isFolded
        self.zone = zone
    }
}

/// A day and a time of day, as Python's `datetime.datetime`.
public struct PickleDateTime: Sendable, Hashable {
    /// The day, in the time's own zone.
    public var date: PickleDate
    /// The time of day, which says the zone.
    public var time: PickleTime

    /// The moment when a clock of the time's zone shows this.
    public init(date: PickleDate, time: PickleTime) {
        self.date = date
        self.time = time
    }

    /// Microseconds since the start of 1970, UTC; a time of no stated zone is taken as UTC.
    public var microsecondsSince1970: Int {
        let seconds = self.date.daysSince1970 * 86400 + self.time.hour * 3600 + self.time.minute * 60 + self.time.second
        let offset = self.time.zone?.offset.totalMicroseconds ?? 0
        return seconds * 1_000_000 + self.time.microsecond - offset
    }

    /// The moment, in UTC. Nil outside the years 1 to 9999, because Python has no others.
    public init?(microsecondsSince1970 microseconds: Int) {
        let days = microseconds.dividedDown(by: 86_400_000_000)
        let rest = microseconds - days * 86_400_000_000
        self.date = PickleDate(daysSince1970: days)
        guard (1...9999).contains(self.date.year) else { return nil }
        let seconds = rest / 1_000_000
        self.time = PickleTime(
            hour: seconds / 3600, minute: seconds / 60 % 60, second: seconds % 60, microsecond: rest % 1_000_000, zone: .utc)
    }
}

/// A span of time, as Python's `datetime.timedelta`: seconds and microseconds are never negative.
public struct PickleDuration: Sendable, Hashable {
    /// Whole days, negative for a span that is.
    public var days: Int
    /// From 0 to 86,399, besides the days.
    public var seconds: Int
    /// From 0 to 999,999, besides the seconds.
    public var microseconds: Int

    /// The span, its parts brought into range.
    public init(days: Int = 0, seconds: Int = 0, microseconds: Int = 0) {
        let carriedSeconds = microseconds.dividedDown(by: 1_000_000)
        let allSeconds = seconds + carriedSeconds
        let carriedDays = allSeconds.dividedDown(by: 86400)
        self.days = days + carriedDays
        self.seconds = allSeconds - carriedDays * 86400
        self.microseconds = microseconds - carriedSeconds * 1_000_000
    }

    /// Days that Python allows.
    static let longestDays = -999_999_999...999_999_999

    /// The whole span in microseconds. A span beyond 292,000 years, which Python allows, gives the nearest `Int`.
    public var totalMicroseconds: Int {
        let rest = self.seconds * 1_000_000 + self.microseconds
        let (days, overflow) = self.days.multipliedReportingOverflow(by: 86_400_000_000)
        let (total, carry) = days.addingReportingOverflow(rest)
        return overflow || carry ? (self.days < 0 ? -.max : .max) : total
    }
}

/// A zone at a fixed distance from UTC, as Python's `datetime.timezone`.
public struct PickleTimeZone: Sendable, Hashable {
    /// How far the zone's clocks are ahead of UTC.
    public var offset: PickleDuration
    /// The zone's name; nil for Python's own name, such as `UTC+02:00`.
    public var name: String?

    /// A zone whose clocks are so far ahead of UTC.
    public init(offset: PickleDuration, name: String? = nil) {
        self.offset = offset
        self.name = name
    }

    /// UTC itself.
    public static let utc = PickleTimeZone(offset: PickleDuration())
}

extension Int {
    /// The quotient rounded towards minus infinity; the divisor is positive.
    func dividedDown(by divisor: Int) -> Int {
        let quotient = self / divisor
        return self < quotient * divisor ? quotient - 1 : quotient
    }
}
