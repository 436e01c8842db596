// One import is enough for a program that embeds a node.
@_exported import Node
@_exported import Prelude
@_exported import Raft
@_exported import Reactor
@_exported import Storage
@_exported import Telemetry
@_exported import Wire
@_exported import Workflow
