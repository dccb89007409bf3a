"""What a user asks of a trained classifier: answers, answers over time, ONNX."""
