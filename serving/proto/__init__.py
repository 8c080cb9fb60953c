"""Messages of the Open Inference Protocol, compiled from open_inference.proto by `make proto`."""
