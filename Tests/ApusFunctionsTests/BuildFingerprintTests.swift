import ApusFunctions
import Foundation
import Testing

@Suite("Build fingerprint")
struct BuildFingerprintTests {
    @Test("It is hexadecimal, and the same whenever asked")
    func stable() {
        let fingerprint = BuildFingerprint.current
        #expect(fingerprint.count >= 32)
        #expect(fingerprint.allSatisfy { $0.isHexDigit })
        #expect(fingerprint == BuildFingerprint.current)
    }

    #if os(Linux)
        @Test("An executable without a build id is told by its contents")
        func contents() throws {
            let path = "/proc/self/exe"
            let hash = try #require(BuildFingerprint.hash(ofExecutableAt: path))
            #expect(hash == BuildFingerprint.hash(ofExecutableAt: path))
            #expect(hash != BuildFingerprint.hash(ofExecutableAt: "/bin/sh"))
            #expect(BuildFingerprint.hash(ofExecutableAt: "/etc/passwd") == nil)
        }

        @Test("One changed byte of the program makes another fingerprint")
        func oneByte() throws {
            let copy = FileManager.default.temporaryDirectory.appendingPathComponent("apus-\(UUID().uuidString)")
            defer { try? FileManager.default.removeItem(at: copy) }
            var program = try Data(contentsOf: URL(fileURLWithPath: "/bin/sh"))
            program[program.count / 2] ^= 1
            try program.write(to: copy)
            let hash = BuildFingerprint.hash(ofExecutableAt: copy.path)
            #expect(hash != nil)
            #expect(hash != BuildFingerprint.hash(ofExecutableAt: "/bin/sh"))
        }
    #endif
}
