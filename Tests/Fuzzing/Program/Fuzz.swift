import NIOCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// libFuzzer's own main: makes inputs for as long as its options say and ends the process when one fails.
@_silgen_name("LLVMFuzzerRunDriver")
private func runFuzzer(
    _ count: UnsafeMutablePointer<Int32>, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>,
    _ tryOne: @convention(c) (UnsafePointer<UInt8>?, Int) -> Int32
) -> Int32

/// The target under test; libFuzzer's callback is a C function and captures nothing.
nonisolated(unsafe) private var chosen: FuzzTarget?

/// The fuzzers of all parsers in one program: `apus-fuzz TARGET [option or folder of libFuzzer's]...`.
///
/// `apus-fuzz --list` names the targets with the longest input of each; `apus-fuzz --seeds TARGET FOLDER` writes the inputs to begin
/// with to the folder, and the words of the format to FOLDER.dict.
@main
struct Fuzz {
    static func main() throws {
        let arguments = CommandLine.arguments
        switch arguments.dropFirst().first {
        case "--list":
            for target in FuzzTarget.all { print(target.name, target.longestInput) }
        case "--seeds" where arguments.count == 4:
            try self.target(arguments[2]).writeSeeds(to: arguments[3])
        case let name? where !name.hasPrefix("-"):
            let target = self.target(name)
            chosen = target
            WatchedCode.watch(target.modules, table: try Self.text(of: arguments[0] + ".modules"))
            // libFuzzer gets the arguments from the target's name on, which stands in place of a program's name.
            var count = CommandLine.argc - 1
            var rest: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = CommandLine.unsafeArgv + 1
            exit(
                runFuzzer(&count, &rest) { bytes, count in
                    let input = ByteBuffer(bytes: UnsafeBufferPointer(start: bytes, count: count))
                    do { try chosen?.check(input) } catch { fatalError("\(error)") }
                    return 0
                })
        default:
            self.fail("usage: apus-fuzz --list | --seeds TARGET FOLDER | TARGET [libFuzzer's arguments]")
        }
    }

    private static func text(of path: String) throws -> String {
        guard let file = fopen(path, "rb") else { return "" }
        defer { fclose(file) }
        var text: [UInt8] = []
        var piece = Array(repeating: UInt8(0), count: 1 << 16)
        while case let count = fread(&piece, 1, piece.count, file), count > 0 { text += piece[..<count] }
        return String(decoding: text, as: UTF8.self)
    }

    private static func fail(_ words: String) -> Never {
        let line = Array("\(words)\n".utf8)
        _ = write(STDERR_FILENO, line, line.count)
        exit(2)
    }

    private static func target(_ name: String) -> FuzzTarget {
        guard let target = FuzzTarget.all.first(where: { $0.name == name }) else {
            self.fail("apus-fuzz: there is no target '\(name)'; --list names them")
        }
        return target
    }
}

extension FuzzTarget {
    fileprivate func writeSeeds(to folder: String) throws {
        for (number, seed) in self.seeds.enumerated() { try Self.write(seed, to: "\(folder)/seed-\(number)") }
        let lines = self.words.map { word in
            let escaped = word.utf8.map {
                (0x20..<0x7f).contains($0) && $0 != 0x22 && $0 != 0x5c ? String(UnicodeScalar($0)) : Self.escape($0)
            }
            return "\"\(escaped.joined())\"\n"
        }
        try Self.write(ByteBuffer(string: lines.joined()), to: "\(folder).dict")
    }

    private static func escape(_ byte: UInt8) -> String { "\\x" + (byte < 16 ? "0" : "") + String(byte, radix: 16) }

    private static func write(_ bytes: ByteBuffer, to path: String) throws {
        guard let file = fopen(path, "wb") else { throw BrokenProperty(description: "\(path) cannot be written") }
        defer { fclose(file) }
        bytes.withUnsafeReadableBytes { _ = fwrite($0.baseAddress, 1, $0.count, file) }
    }
}
