/**
 * Child processes: started with a clean environment, their output kept for the error message, ended by their pid.
 * Nothing of the caller's environment but what is named here reaches them (a proxy variable would divert loopback).
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createTextRing } from './ring.ts'
import { until } from './wait.ts'

/**
 * Debian's own places first: a newer `docker` that a developer installed elsewhere refuses Debian's older dockerd. An
 * ordinary user's PATH also lacks the sbin folders.
 */
const PROGRAM_PATH = '/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin'

export interface ProgramOptions {
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
  /** Called with each line of standard output, without its newline. */
  readonly onLine?: (line: string) => void
}

export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** A running child. Disposing it is `stop()`. */
export interface Program extends AsyncDisposable {
  readonly name: string
  readonly pid: number
  /** Resolves when it has ended and its output has been read; never rejects. */
  readonly exited: Promise<Exit>
  /** What is known once it has ended. */
  readonly exit: Exit | undefined
  /** The last 128 KiB or more of standard output and error. */
  logs(): string
  signal(signal: NodeJS.Signals): void
  /** SIGTERM (to a frozen process too), SIGKILL after `deadlineMs` (default 5 s); resolves when it has ended. */
  stop(options?: { readonly deadlineMs?: number }): Promise<Exit>
  /** SIGKILL; resolves when it has ended. */
  kill(): Promise<Exit>
}

/** A program that failed, with the end of what it wrote in its message. */
export class ProgramError extends Error {
  override readonly name = 'ProgramError'
  readonly exit: Exit | undefined

  constructor(message: string, logs: string, options: { exit?: Exit | undefined; cause?: unknown } = {}) {
    super(`${message}\n${logs.trimEnd() || '(it wrote nothing)'}`, { cause: options.cause })
    this.exit = options.exit
  }
}

/** A worker that ends early (a failed assertion in a hook, process.exit) must leave no server behind. */
const alive = new Set<ChildProcess>()
process.on('exit', () => {
  for (const child of alive) child.kill('SIGKILL')
})

/** Where node keeps what it has compiled of the sources: set by the tests alone, whose sites start hundreds of times. */
const COMPILE_CACHE = 'NODE_COMPILE_CACHE'

function environment(extra: Readonly<Record<string, string>> = {}): Record<string, string> {
  const cache = process.env[COMPILE_CACHE]
  const kept = cache === undefined ? {} : { [COMPILE_CACHE]: cache }
  return { PATH: PROGRAM_PATH, HOME: '/nonexistent', LANG: 'C.UTF-8', ...kept, ...extra }
}

/** Resolves when the program has been executed; throws `ProgramError` when it cannot be (not installed). */
export async function startProgram(
  command: string,
  args: readonly string[],
  options: ProgramOptions = {},
): Promise<Program> {
  const child = spawn(command, args, {
    env: environment(options.env),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const ring = createTextRing()
  child.stdout.setEncoding('utf8').on('data', ring.append)
  child.stderr.setEncoding('utf8').on('data', ring.append)
  if (options.onLine) splitLines(child.stdout, options.onLine)
  let exit: Exit | undefined
  let askedToEnd = false
  const exited = new Promise<Exit>((resolve) => {
    child.once('close', (code: number | null, signal: NodeJS.Signals | null) => {
      alive.delete(child)
      exit = { code, signal }
      // Else a test sees refused connections only, and what the program died of is lost with it.
      if (child.pid !== undefined && code !== 0 && !askedToEnd) {
        process.stderr.write(`${command} (${child.pid}) ended by itself: ${signal ?? code}\n${ring.text()}\n`)
      }
      resolve(exit)
    })
  })
  try {
    await once(child, 'spawn')
  } catch (cause) {
    throw new ProgramError(`${command} could not be started: ${String(cause)}`, '', { cause })
  }
  alive.add(child)
  const { pid } = child
  if (pid === undefined) throw new ProgramError(`${command} has no pid`, ring.text())

  async function kill(): Promise<Exit> {
    askedToEnd = true
    if (!exit) child.kill('SIGKILL')
    return await exited
  }
  async function stop({ deadlineMs = 5000 }: { readonly deadlineMs?: number } = {}): Promise<Exit> {
    if (exit) return exit
    askedToEnd = true
    child.kill('SIGTERM')
    child.kill('SIGCONT')
    const killer = setTimeout(() => child.kill('SIGKILL'), deadlineMs)
    try {
      return await exited
    } finally {
      clearTimeout(killer)
    }
  }
  return {
    name: command,
    pid,
    exited,
    get exit() {
      return exit
    },
    logs: ring.text,
    signal(signal) {
      askedToEnd = true
      child.kill(signal)
    },
    stop,
    kill,
    [Symbol.asyncDispose]: async () => void (await stop()),
  }
}

function splitLines(stream: NodeJS.ReadableStream, onLine: (line: string) => void): void {
  let rest = ''
  stream.on('data', (text: string) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) onLine(line)
  })
}

export interface RunOptions extends ProgramOptions {
  /** Written to its standard input, which is then closed. */
  readonly input?: string | Uint8Array
  /** SIGKILL after this; default 120 s. */
  readonly deadlineMs?: number
}

export interface RunResult {
  readonly stdout: string
  readonly stderr: string
}

/** Runs a program to its end; throws `ProgramError` unless it ended with status 0. */
export async function runProgram(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  const deadlineMs = options.deadlineMs ?? 120_000
  const child = spawn(command, args, {
    env: environment(options.env),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    stdio: 'pipe',
    timeout: deadlineMs,
    killSignal: 'SIGKILL',
  })
  alive.add(child)
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  child.stdin.on('error', () => {}) // A program that does not read its input says what is wrong by its status.
  child.stdin.end(options.input)
  try {
    const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null]
    if (code === 0) return { stdout, stderr }
    const outcome =
      code === null ? `was ended by ${signal} (deadline ${deadlineMs} ms)` : `ended with ${code}`
    throw new ProgramError(`${command} ${args.join(' ')}: ${outcome}`, stderr + stdout, {
      exit: { code, signal },
    })
  } catch (cause) {
    if (cause instanceof ProgramError) throw cause
    throw new ProgramError(`${command} could not be started: ${String(cause)}`, '', { cause })
  } finally {
    alive.delete(child)
  }
}

export interface ReadyOptions {
  /** Default 30 s: a busy machine may start many at once. */
  readonly deadlineMs?: number
  /** Which statuses mean ready; default any. */
  readonly accept?: (status: number) => boolean
}

/**
 * Waits until the URL answers. When the program ends before that, or the deadline passes, it is stopped and
 * `ProgramError` thrown with what it wrote.
 */
export async function waitForHttp(program: Program, url: string, options: ReadyOptions = {}): Promise<void> {
  await waitUntilReady(program, `${program.name} to answer ${url}`, options.deadlineMs, async () => {
    const response = await fetch(url, { redirect: 'manual', signal: AbortSignal.timeout(1000) })
    await response.body?.cancel()
    return options.accept?.(response.status) ?? true
  })
}

/** As `waitForHttp`, for a condition that is not an answer over HTTP. */
export async function waitUntilReady(
  program: Program,
  what: string,
  deadlineMs: number = 30_000,
  ready: () => boolean | Promise<boolean>,
): Promise<void> {
  try {
    await until(async () => program.exit !== undefined || (await ready()), { what, deadlineMs })
  } catch (cause) {
    await program.kill()
    throw new ProgramError(cause instanceof Error ? cause.message : String(cause), program.logs(), { cause })
  }
  if (!program.exit) return
  const { code, signal } = program.exit
  throw new ProgramError(`${program.name} ended (${signal ?? code}) before it was ready`, program.logs(), {
    exit: program.exit,
  })
}
