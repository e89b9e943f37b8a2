#!/usr/bin/env node
/** The program: one command, its answer on standard output, its complaints on standard error, its exit status. */
import { runCommand } from './command.ts'
import { runTuned } from './runtime.ts'

const args = process.argv.slice(2)
if (args[0] === 'serve' || args[0] === 'proxy') runTuned()

process.exitCode = await runCommand(args, {
  out: (text) => process.stdout.write(text),
  err: (text) => process.stderr.write(text),
})
