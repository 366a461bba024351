import CFunctionSection

// libFuzzer looks through the counters of all code after each input. With the counters of all our modules that takes longer than
// most parsers do, so libFuzzer is told only of the modules that a target is about. The linker puts the two functions with
// `__wrap_` in place of libFuzzer's, which the program's code calls before `main`.

@_silgen_name("__real___sanitizer_cov_8bit_counters_init")
private func giveCounters(_ start: UnsafeMutablePointer<UInt8>, _ end: UnsafeMutablePointer<UInt8>)
@_silgen_name("__real___sanitizer_cov_pcs_init")
private func givePlaces(_ start: UnsafePointer<CodePlace>, _ end: UnsafePointer<CodePlace>)

@_cdecl("__wrap___sanitizer_cov_8bit_counters_init")
func keepCounters(_ start: UnsafeMutablePointer<UInt8>, _ end: UnsafeMutablePointer<UInt8>) {
    WatchedCode.counters = UnsafeMutableBufferPointer(start: start, count: end - start)
}
@_cdecl("__wrap___sanitizer_cov_pcs_init")
func keepPlaces(_ start: UnsafeRawPointer, _ end: UnsafeRawPointer) {
    let count = (end - start) / MemoryLayout<CodePlace>.stride
    WatchedCode.places = UnsafeBufferPointer(start: start.assumingMemoryBound(to: CodePlace.self), count: count)
}

/// An entry of the table that the compiler writes beside the counters.
struct CodePlace {
    let address: UInt
    let flags: UInt
}

/// The counters of the program, one for each place in its code.
enum WatchedCode {
    nonisolated(unsafe) static var counters = UnsafeMutableBufferPointer<UInt8>(start: nil, count: 0)
    nonisolated(unsafe) static var places = UnsafeBufferPointer<CodePlace>(start: nil, count: 0)

    /// Tells libFuzzer of the code of these modules.
    ///
    /// - Parameter table: A line for each place in the program's file where another module's code begins: its address and the module.
    static func watch(_ modules: Set<String>, table: String) {
        var starts: [(address: UInt, isWatched: Bool)] = []
        for line in table.split(separator: "\n") {
            let fields = line.split(separator: " ")
            guard fields.count == 2, let address = UInt(fields[0], radix: 16) else { continue }
            starts.append((address, modules.contains(String(fields[1]))))
        }
        // Without a table all code is watched.
        if starts.isEmpty { starts = [(0, true)] }
        let base = Self.imageBase
        var first = 0
        while first < self.places.count {
            let isWatched = Self.isWatched(self.places[first].address &- base, starts)
            var last = first + 1
            // Code that the optimiser dropped has no address and stays with its neighbours.
            while last < self.places.count,
                self.places[last].address < base || Self.isWatched(self.places[last].address - base, starts) == isWatched
            { last += 1 }
            if isWatched, let counters = self.counters.baseAddress, let places = self.places.baseAddress {
                giveCounters(counters + first, counters + last)
                givePlaces(places + first, places + last)
            }
            first = last
        }
    }

    private static func isWatched(_ address: UInt, _ starts: [(address: UInt, isWatched: Bool)]) -> Bool {
        var (low, high) = (0, starts.count)
        while low < high {
            let middle = (low + high) / 2
            if starts[middle].address <= address { low = middle + 1 } else { high = middle }
        }
        return low > 0 && starts[low - 1].isWatched
    }

    /// Where the program was loaded.
    private static var imageBase: UInt {
        self.counters.baseAddress.map { UInt(bitPattern: apus_image_of($0)) } ?? 0
    }
}
