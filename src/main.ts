#!/usr/bin/env node
/** The program: one command, its answer on standard output, its complaints on standard error, its exit status. */
import { runTuned } from './runtime.ts'

const SERVING: ReadonlySet<string | undefined> = new Set(['serve', 'proxy', 'replicator', 'relay'])
const args = process.argv.slice(2)
if (SERVING.has(args[0])) runTuned()

// Not before: a process that is replaced would load all of it for nothing.
const { runCommand } = await import('./command.ts')
process.exitCode = await runCommand(args, {
  out: (text) => process.stdout.write(text),
  err: (text) => process.stderr.write(text),
  terminal: { out: process.stdout.isTTY, err: process.stderr.isTTY },
})
