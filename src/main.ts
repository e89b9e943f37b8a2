#!/usr/bin/env node
/** The program: one command, its answer on standard output, its complaints on standard error, its exit status. */
import { runCommand } from './command.ts'

process.exitCode = await runCommand(process.argv.slice(2), {
  out: (text) => process.stdout.write(text),
  err: (text) => process.stderr.write(text),
})
