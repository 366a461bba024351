// swift-tools-version: 6.2
import PackageDescription

let package = Package(
    name: "prime-counting",
    platforms: [.macOS(.v15)],
    dependencies: [.package(path: "../apus")],
    targets: [
        .executableTarget(name: "prime-counting", dependencies: [.product(name: "Apus", package: "apus")])
    ]
)
