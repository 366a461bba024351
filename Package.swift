// swift-tools-version: 6.2
import CompilerPluginSupport
import PackageDescription

// The floors. A target may depend only on targets of a lower floor (rows that lean sideways say so), and the build
// enforces it: CI compiles with `--explicit-target-dependency-import-check error`.

let language: [SwiftSetting] = [
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
]
// Set by scripts/sanitize.
let sanitized: [SwiftSetting] = Context.environment["APUS_THREAD_SANITIZER"] == nil ? [] : [.define("APUS_THREAD_SANITIZER")]
let settings = language + sanitized + [.treatAllWarnings(as: .error)]

let nioCore: Target.Dependency = .product(name: "NIOCore", package: "swift-nio")
let nioPosix: Target.Dependency = .product(name: "NIOPosix", package: "swift-nio")
let nioEmbedded: Target.Dependency = .product(name: "NIOEmbedded", package: "swift-nio")
let crypto: Target.Dependency = .product(name: "Crypto", package: "swift-crypto")
let deque: Target.Dependency = .product(name: "DequeModule", package: "swift-collections")
let heap: Target.Dependency = .product(name: "HeapModule", package: "swift-collections")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")

/// The folders of Sources, from the top down.
enum Floor: String {
    case programs = "1-Programs"
    case services = "2-Services"
    case hands = "3-Hands"
    case decisions = "4-Decisions"
    case words = "5-Words"
    case ground = "6-Ground"
    case sharedMemory = "6-Ground/SharedMemory"
    case beside = "7-Beside"

    func folder(_ target: String) -> String { "Sources/\(self.rawValue)/\(target)" }
}

func library(_ name: String, _ floor: Floor, _ dependencies: [Target.Dependency], resources: [Resource]? = nil) -> Target {
    .target(name: name, dependencies: dependencies, path: floor.folder(name), resources: resources, swiftSettings: settings)
}

func program(_ name: String, _ floor: Floor, _ dependencies: [Target.Dependency]) -> Target {
    .executableTarget(name: name, dependencies: dependencies, path: floor.folder(name), swiftSettings: settings)
}

/// A target of C sources.
func cLibrary(_ name: String, _ floor: Floor) -> Target { .target(name: name, path: floor.folder(name)) }

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(name: name, dependencies: dependencies, swiftSettings: settings)
}

func example(_ name: String, _ folder: String) -> Target {
    .executableTarget(name: name, dependencies: ["Apus"], path: "Examples/\(folder)", swiftSettings: settings)
}

/// The modules that read bytes of other programs, which `Tests/Fuzzing` tries.
let fuzzed: [Target.Dependency] = [
    "ApusController", "ApusCore", "ApusEngine", "ApusFunctions", "ApusLaunchers", "ApusSettings", "ApusStore", "ApusWire",
    "CFunctionSection", "Pickle", "ZMTP", nioCore,
]

/// The Python side of an engine that runs Python, embedded in the binary.
let kernelSources: [Resource] = [
    "boot", "calls", "channel", "comms", "ipython_shell", "kernel", "lazy", "loop", "memory", "output", "plain_shell",
].map {
    .embedInCode("Python/kernel/\($0).py")
}

let package = Package(
    name: "apus",
    platforms: [.macOS(.v15)],
    products: [
        .library(name: "Apus", targets: ["Apus"]),
        // One copy of Apus for a program and the libraries of remote functions that its engines load.
        .library(name: "ApusDynamic", type: .dynamic, targets: ["Apus"]),
        .executable(name: "apus", targets: ["apus-command"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.0"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/swiftlang/swift-syntax", from: "603.0.1"),
        .package(url: "https://github.com/swiftlang/swift-subprocess", from: "1.0.2"),
        .package(url: "https://github.com/apple/swift-system", from: "1.8.0"),
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
    ],
    targets: [
        // Ground: the bounds of the section that lists remote functions, the entry into engine mode, memory that two processes
        // share, the macro plugin.
        cLibrary("CFunctionSection", .ground),
        cLibrary("CEngineMode", .ground),
        cLibrary("CSharedMemory", .sharedMemory),
        .macro(
            name: "ApusMacros",
            dependencies: [
                .product(name: "SwiftSyntax", package: "swift-syntax"),
                .product(name: "SwiftSyntaxMacros", package: "swift-syntax"),
                .product(name: "SwiftSyntaxBuilder", package: "swift-syntax"),
                .product(name: "SwiftDiagnostics", package: "swift-syntax"),
                .product(name: "SwiftCompilerPlugin", package: "swift-syntax"),
            ], path: Floor.ground.folder("ApusMacros"), swiftSettings: settings),

        // The lock that all other targets use: Synchronization's or, in a build for the thread sanitizer, a lock that it knows
        // (scripts/sanitize).
        library("Locks", .ground, []),
        library("MemoryFiles", .sharedMemory, ["CSharedMemory", "Locks", nioCore]),

        // Words: bytes and names, no behaviour over time. Functions lean sideways on Pickle, because their arguments are its
        // values, and on the wire, because which engines can run a call is read from its message.
        library("Pickle", .words, [nioCore]),
        library("ApusWire", .words, ["MemoryFiles", nioCore, crypto]),
        library("ApusFunctions", .words, ["ApusWire", "CFunctionSection", "ApusMacros", "Locks", "Pickle", nioCore]),
        library("ApusTransport", .words, ["Locks", nioCore]),

        // Decisions: values, events in, effects out.
        library("ApusCore", .decisions, ["ApusWire", nioCore, deque, heap]),
        library("ApusStore", .decisions, ["ApusWire", "Locks", nioCore, deque]),

        // Hands: one foreign thing each.
        library("ZMTP", .hands, ["MemoryFiles", nioCore, nioPosix]),
        // Leans sideways on ZMTP, which it puts behind the transport protocol, so that ZMTP itself does not depend on Apus.
        library("ZMTPTransport", .hands, ["ZMTP", "ApusTransport", nioCore]),
        library(
            "ApusSQLite", .hands,
            [
                "ApusStore", "ApusWire", "Locks", deque, nioCore, .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "GRDBSQLite", package: "GRDB.swift"),
            ]),
        library(
            "ApusLaunchers", .hands,
            [
                "ApusWire", "Locks", logging, .product(name: "SystemPackage", package: "swift-system"),
                .product(name: "Subprocess", package: "swift-subprocess"),
            ]),

        // Services: actors around cores.
        library(
            "ApusController", .services,
            [
                "ApusCore", "ApusFunctions", "ApusStore", "ApusTransport", "ApusWire", "MemoryFiles", "Pickle", nioCore, deque,
                logging,
            ]),
        library(
            "ApusEngine", .services,
            [
                "ApusCore", "ApusFunctions", "ApusTransport", "ApusWire", "CEngineMode", "CSharedMemory", "Locks", "MemoryFiles",
                "Pickle", "ZMTPTransport",
                nioCore, nioPosix, logging,
            ], resources: kernelSources),
        library(
            "ApusClient", .services,
            ["ApusCore", "ApusFunctions", "ApusTransport", "ApusWire", "Locks", "MemoryFiles", "Pickle", nioCore, logging]),

        // Programs.
        library(
            "Apus", .programs,
            [
                "ApusClient", "ApusController", "ApusCore", "ApusEngine", "ApusFunctions", "ApusLaunchers", "ApusSQLite",
                "ApusStore",
                "ApusTransport", "ApusWire", "CEngineMode", "Locks", "Pickle", "ZMTPTransport", nioCore, nioPosix, logging,
            ], resources: [.embedInCode("Dask/dask_scheduler.py")]),

        // Command lines, environment and configuration files of a controller and of an engine.
        library("ApusSettings", .programs, ["ApusController", "ApusEngine", "ApusWire", logging]),
        program(
            "apus-command", .programs,
            [
                "Apus", "ApusController", "ApusCore", "ApusEngine", "ApusLaunchers", "ApusSettings", "ApusWire", logging,
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ]),

        // Beside: a simulated cluster, the program that tries it with many seeds (scripts/simulate), and the suites that several
        // implementations must pass.
        library("ApusSimulation", .beside, ["ApusCore", "ApusWire"]),
        // The same for the services, over a simulated network and in simulated time. A target of its own, because every program
        // that links it has its clocks.
        cLibrary("CSimulatedTime", .beside),
        library(
            "ApusClusterSimulation", .beside,
            [
                "ApusClient", "ApusController", "ApusCore", "ApusEngine", "ApusFunctions", "ApusStore", "ApusTransport",
                "ApusWire",
                "CSimulatedTime", "Locks", nioCore, heap, logging,
            ]),
        program(
            "apus-simulate", .beside,
            [
                "ApusClusterSimulation", "ApusSimulation", .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ]),
        library(
            "ApusTestKit", .beside,
            [
                "Apus", "ApusClient", "ApusController", "ApusCore", "ApusEngine", "ApusStore", "ApusTransport", "ApusWire",
                nioCore,
                nioPosix, logging,
            ]),

        // A generator of load for a controller alone, for scripts/scale.
        program(
            "apus-load", .beside,
            [
                "ApusTransport", "ApusWire", "ZMTPTransport", nioCore, nioPosix,
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ]),

        // A Swift client, and engines that have its functions, for scripts/chaos.
        program(
            "apus-chaos", .beside,
            ["Apus", "ApusCore", "ApusWire", .product(name: "ArgumentParser", package: "swift-argument-parser")]),

        // Examples: programs of users.
        .target(name: "DebianClosure", path: "Examples/DebianClosure/Library", swiftSettings: settings),
        .executableTarget(
            name: "debian-closure",
            dependencies: ["Apus", "DebianClosure", .product(name: "ArgumentParser", package: "swift-argument-parser")],
            path: "Examples/DebianClosure/Program", swiftSettings: settings),
        example("prime-counting", "PrimeCounting"),
        example("option-pricing", "OptionPricing"),
        example("word-frequencies", "WordFrequencies"),
        example("wave-equation", "WaveEquation"),
        example("task-graph", "TaskGraph"),
        example("cross-validation", "CrossValidation"),

        .target(name: "TestPython", path: "Tests/TestPython", swiftSettings: settings),
        tests(
            "ApusMacrosTests",
            [
                // ApusClient is for the compiler that a test runs.
                "ApusMacros", "ApusFunctions", "ApusClient",
                .product(name: "SwiftDiagnostics", package: "swift-syntax"),
                .product(name: "SwiftParser", package: "swift-syntax"),
                .product(name: "SwiftSyntax", package: "swift-syntax"),
                .product(name: "SwiftSyntaxMacroExpansion", package: "swift-syntax"),
                .product(name: "SwiftSyntaxMacros", package: "swift-syntax"),
            ]),
        tests("PickleTests", ["Pickle", "TestPython", nioCore]),
        tests("ApusWireTests", ["ApusWire", "MemoryFiles", nioCore]),
        tests("ApusFunctionsTests", ["ApusFunctions", "ApusWire", "Pickle", "TestPython", nioCore]),
        tests("ApusTransportTests", ["ApusTransport", "Locks", nioCore, nioPosix]),
        tests("ApusCoreTests", ["ApusCore", "ApusSimulation", "ApusTestKit", "ApusWire", nioCore]),
        // Runs the program apus-simulate and does not link its library, whose simulated clocks need a process of their own.
        tests("ApusSimulationTests", []),
        tests("ApusStoreTests", ["ApusStore", "ApusTestKit", "ApusWire", nioCore]),
        tests("ZMTPTests", ["TestPython", "ZMTP", nioCore, nioPosix]),
        tests(
            "ApusSQLiteTests",
            [
                "ApusSQLite", "ApusStore", "ApusTestKit", "ApusWire", "Locks", nioCore,
                .product(name: "GRDB", package: "GRDB.swift"),
            ]),
        tests("ApusLaunchersTests", ["ApusLaunchers", "ApusWire", "TestPython"]),
        tests("DebianClosureTests", ["DebianClosure"]),
        tests(
            "ApusEngineTests",
            [
                "ZMTPTransport", "ApusCore", "ApusEngine", "ApusFunctions", "ApusTransport", "ApusWire", "Locks", "Pickle",
                "TestPython",
                nioCore,
                nioPosix, logging,
            ]),
        tests(
            "ApusControllerTests",
            [
                "ApusController", "ApusCore", "ApusFunctions", "ApusStore", "ApusTransport", "ApusWire", "Locks", "MemoryFiles",
                "Pickle", "ZMTPTransport", nioCore, nioPosix, logging,
            ]),
        tests("ApusSettingsTests", ["ApusController", "ApusEngine", "ApusSettings", "ApusWire", logging]),
        tests("ApusClientTests", ["ApusClient", "ApusTransport", "ApusWire", "Locks", nioCore, nioPosix, logging]),
        tests(
            "ApusTestKitTests",
            [
                "Apus", "ApusClient", "ApusFunctions", "ApusTestKit", "ApusTransport", "ApusWire", "Locks", "Pickle", nioCore,
                nioPosix,
                logging,
            ]),
        .testTarget(
            name: "FuzzTests", dependencies: fuzzed, path: "Tests/Fuzzing", exclude: ["Inputs", "Program"],
            swiftSettings: settings),
        // Compiled here and linked by a test. Symbols that it does not define are found in the program that loads it, which
        // exports its own.
        .target(name: "SampleModule", dependencies: ["ApusFunctions"], path: "Tests/SampleModule", swiftSettings: settings),
        .testTarget(
            name: "ApusTests", dependencies: ["Apus", "Locks", "TestPython", nioCore, nioPosix], swiftSettings: settings,
            linkerSettings: [.unsafeFlags(["-Xlinker", "--export-dynamic"])]),
        tests(
            "ExamplesTests",
            ["TestPython", "option-pricing", "word-frequencies", "wave-equation", "task-graph", "cross-validation"]),
    ]
)

// To build less while working on one target: APUS_TEST_TARGETS=ApusCoreTests,ApusTestKitTests builds only these tests, and no
// example. With `none`, the folders of tests and examples may be missing, as they are in Python's source distribution.
if let chosen = Context.environment["APUS_TEST_TARGETS"], !chosen.isEmpty {
    if chosen == "none" { package.targets.removeAll { $0.path?.hasPrefix("Sources/") != true } }
    let names = Set(chosen.split(separator: ",").map(String.init))
    package.targets.removeAll { target in
        (target.type == .test && !names.contains(target.name))
            || (target.type == .executable && target.path?.hasPrefix("Examples/") == true && !names.contains("ExamplesTests"))
    }
    package.products.removeAll { $0.name == "ApusDynamic" }
}

// For scripts/fuzz: one program of all fuzzers, with libFuzzer's library at this path, and modules compiled so that libFuzzer
// sees which code an input reaches. The macros and the one file that uses them are left out, because swift-syntax takes longer to
// compile than all the rest.
if let library = Context.environment["APUS_FUZZER_LIBRARY"], !library.isEmpty {
    let parsers: Set = [
        "ApusController", "ApusCore", "ApusEngine", "ApusFunctions", "ApusLaunchers", "ApusSettings", "ApusStore",
        "ApusTransport",
        "ApusWire", "CEngineMode", "CFunctionSection", "CSharedMemory", "Locks", "MemoryFiles", "Pickle", "ZMTP", "ZMTPTransport",
    ]
    // The checks of debug builds stay, so that an index beyond a buffer is reported and not read.
    let watched = language + [SwiftSetting.unsafeFlags(["-sanitize=fuzzer", "-enable-testing", "-assert-config", "Debug"])]
    package.products = []
    package.targets.removeAll { !parsers.contains($0.name) }
    for target in package.targets {
        target.dependencies.removeAll { if case .byNameItem("ApusMacros", _) = $0 { true } else { false } }
        if target.name == "ApusEngine" { target.exclude = ["Service/LibraryFunctions.swift"] }
        target.swiftSettings = watched
        target.cSettings = [.unsafeFlags(["-fsanitize=fuzzer-no-link"])]
    }
    package.targets.append(
        .executableTarget(
            name: "apus-fuzz", dependencies: fuzzed, path: "Tests/Fuzzing", exclude: ["Inputs", "Replay"], swiftSettings: watched,
            linkerSettings: [
                .unsafeFlags([library]), .linkedLibrary("stdc++"),
                // See Tests/Fuzzing/Program/WatchedCode.swift.
                .unsafeFlags([
                    "-Xlinker", "--wrap=__sanitizer_cov_8bit_counters_init", "-Xlinker", "--wrap=__sanitizer_cov_pcs_init",
                ]),
            ]))
}
