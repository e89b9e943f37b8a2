/** What every command has in common: where its words go, and the status it ends with. */

/** 0 done, 1 the answer is no or the site failed, 2 wrong usage or configuration. */
export type ExitStatus = 0 | 1 | 2

export interface CommandOutput {
  /** The command's answer. */
  readonly out: (text: string) => void
  /** What went wrong, and how far long work has come. */
  readonly err: (text: string) => void
  /** Which of them write to a terminal, where a line can be written over; default neither. */
  readonly terminal?: { readonly out: boolean; readonly err: boolean } | undefined
}

/** Ends the command with these words and this status. */
export class CommandFailed extends Error {
  override readonly name = 'CommandFailed'
  readonly status: ExitStatus

  constructor(message: string, status: ExitStatus) {
    super(message)
    this.status = status
  }
}
