"""What a message is: records on Kafka, frames on the socket, messages on the bus; typed, versioned, no logic."""
