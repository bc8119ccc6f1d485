"""The version of bigpe, as its stored runs, traces and published instructions name it."""

VERSION = "0.2.0"
