// What workflows are written with: a program needs one import.
@_exported import Prelude
@_exported import Workflow
