/** What `command.ts` lends to the files of commands. */
import type { Command } from 'commander'
import type { Asking } from './asking.ts'
import type { CommandOutput, ExitStatus } from './command-output.ts'

export interface ConfigOption {
  readonly config?: string
}

export interface CommandContext {
  readonly output: CommandOutput
  /** Gives a command its `--config`. */
  readonly withConfig: (command: Command) => Command
  /** Throws `ConfigError` and `CommandFailed`. */
  readonly asking: (options: ConfigOption) => Asking
  /** The status the program ends with. */
  readonly end: (status: ExitStatus) => void
}
