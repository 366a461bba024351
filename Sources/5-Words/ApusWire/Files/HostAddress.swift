#if canImport(Glibc)
    private import Glibc
#elseif canImport(Musl)
    private import Musl
#elseif canImport(Darwin)
    private import Darwin
#endif

/// Finds the address that a connection file means (protocol article, "Choosing an address").
package enum HostAddress {
    /// The address to connect to.
    ///
    /// An explicit host in `interface` wins. A wildcard means the machine called `location`: this one, then loopback, or another,
    /// then its first IPv4 address.
    package static func reachable(interface: String, location: String) throws(WireError) -> String {
        let host = Self.host(ofInterface: interface)
        if !["*", "0.0.0.0", "::"].contains(host) { return host }
        let location = Self.withoutBrackets(location)
        if location.isEmpty || location == Self.hostName || location == "localhost" { return "127.0.0.1" }
        // An IPv6 address needs no resolver, and `resolve` knows IPv4 only.
        if location.contains(":") { return location }
        guard let address = Self.resolve(location).first else {
            throw WireError("the controller's location '\(location)' is not known to this machine's resolver")
        }
        return Self.resolve(Self.hostName).contains(address) ? "127.0.0.1" : address
    }

    /// An address without the brackets in which an IPv6 one may stand, as in `[::1]`.
    package static func withoutBrackets(_ address: String) -> String {
        address.hasPrefix("[") && address.hasSuffix("]") ? String(address.dropFirst().dropLast()) : address
    }

    /// The `interface` of a connection file for an address: `tcp://10.0.0.7`, `tcp://[::1]`, `tcp://*`.
    package static func interface(_ address: String) -> String {
        let address = Self.withoutBrackets(address)
        return address.contains(":") ? "tcp://[\(address)]" : "tcp://\(address)"
    }

    /// The address in a connection file's `interface`.
    package static func host(ofInterface interface: String) -> String {
        Self.withoutBrackets(String(interface.drop { $0 != "/" }.drop { $0 == "/" }))
    }

    /// Whether a machine's name, as connection files give it, means this one.
    package static func isHere(_ location: String) -> Bool {
        if location == Self.hostName || location == "localhost" { return true }
        return !Set(Self.resolve(location)).isDisjoint(with: Self.resolve(Self.hostName))
    }

    /// Throws for a controller that is to be reached by SSH tunnels, unless it is on this machine and needs none.
    package static func requireNoTunnel(_ common: ConnectionCommon) throws(WireError) {
        guard !common.ssh.isEmpty, !Self.isHere(common.location) else { return }
        throw WireError(
            "the connection file says that the controller on '\(common.location)' is reached by SSH through '\(common.ssh)', and tunnels "
                + "cannot be made yet. Open them with 'ssh -L', one for each port in the file, and take a copy of the file with \"ssh\" "
                + "empty and \"location\" localhost")
    }

    package static let hostName: String = {
        var name = [CChar](repeating: 0, count: 256)
        guard gethostname(&name, name.count) == 0 else { return "localhost" }
        return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }()

    /// The IPv4 addresses of a name, in the resolver's order.
    package static func resolve(_ name: String) -> [String] {
        var hints = addrinfo()
        hints.ai_family = AF_INET
        var list: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(name, nil, &hints, &list) == 0 else { return [] }
        defer { freeaddrinfo(list) }
        var addresses: [String] = []
        var next = list
        while let entry = next {
            var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
            if getnameinfo(entry.pointee.ai_addr, entry.pointee.ai_addrlen, &text, socklen_t(text.count), nil, 0, NI_NUMERICHOST)
                == 0
            {
                let address = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
                if !addresses.contains(address) { addresses.append(address) }
            }
            next = entry.pointee.ai_next
        }
        return addresses
    }
}
