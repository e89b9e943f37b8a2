/** What every wrapped client can do. Each has its own home, credentials and storage, and speaks plain HTTP to 127.0.0.1. */
import type { RunResult } from '../process.ts'

export interface RegistryClient extends AsyncDisposable {
  readonly name: string
  /** Any command of the client, with the options that isolate it; throws `ProgramError` with what it wrote. */
  exec(args: readonly string[], options?: ExecOptions): Promise<RunResult>
  /** `host` is `127.0.0.1:<port>`. Throws when the registry refuses the credentials. */
  login(host: string, username: string, password: string): Promise<void>
  /** Into the client's own storage, from nothing: `reference` is `127.0.0.1:<port>/team/app:v1` or `…@sha256:…`. */
  pull(reference: string): Promise<void>
  /** What lies in the client's storage under this reference. */
  push(reference: string): Promise<void>
  /** Makes a small image with this reference in the client's storage; seeds differ in content. */
  make(reference: string, seed: string): Promise<void>
}

export interface ExecOptions {
  readonly input?: string
  /** Default 120 s. */
  readonly deadlineMs?: number
}
