package import ApusFunctions
package import ApusLaunchers
package import ApusStore
package import ApusTransport
package import ApusWire
package import Foundation

/// An error of a lower module, whose description is a sentence for people.
///
/// Users meet such an error as the cause of an `ApusError`. Foundation asks for the sentence by another name, and without it says that
/// the operation could not be completed. The modules have nothing below them in common, so what their errors share is said here, once.
package protocol DescribedError: LocalizedError, CustomStringConvertible {}

extension DescribedError {
    package var errorDescription: String? { self.description }
}

extension LauncherError: DescribedError {}
extension LibraryError: DescribedError {}
extension TaskStoreError: DescribedError {}
extension TransportError: DescribedError {}
extension WireError: DescribedError {}
