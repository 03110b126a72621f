"""The slim training companion: 3D CNNs that are initialized from the stream, fine-tuned and evaluated."""
