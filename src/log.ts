/**
 * One logger, JSON lines with the field names GitLab's registry uses (LabKit), secrets taken out before they are
 * written. Everything that logs is handed a `Logger`; nothing reaches for a global one.
 */
import pino from 'pino'

export type Logger = pino.Logger

/** Where a secret could stand in what is logged, by field. */
const SECRET_FIELDS = [
  'authorization',
  'cookie',
  'password',
  'token',
  'secret',
  'headers.authorization',
  'headers.cookie',
  'req.headers.authorization',
]

export interface LogOptions {
  /** `debug`, `info`, `warn`, `error`; default `info`. */
  readonly level?: string
  /** Where lines go; default standard output. */
  readonly destination?: pino.DestinationStream
  /** Told of each line that was dropped because nobody reads standard output fast enough. */
  readonly onDrop?: () => void
}

/** Lines waiting for a slow reader of standard output; past that they are dropped, for a log must not fill memory. */
const WAITING_BYTES = 8 * 1024 * 1024
/** Lines are written together: one call for each would cost a busy site as much as answering the request. */
const BATCH_BYTES = 64 * 1024
const BATCH_WAITS_MS = 50

/** Where the loggers made here write, and the text of the moment. Children have neither. */
const roots = new WeakMap<Logger, { destination: pino.DestinationStream; timestamp: () => string }>()

export function createLogger(options: LogOptions = {}): Logger {
  const destination = options.destination ?? standardOutput(options.onDrop)
  const timestamp = createTimestamp()
  const log: Logger = pino(
    {
      level: options.level ?? 'info',
      base: null,
      messageKey: 'msg',
      errorKey: 'error',
      timestamp,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: SECRET_FIELDS, censor: '[redacted]' },
      serializers: { error: describeError },
    },
    destination,
  )
  roots.set(log, { destination, timestamp })
  return log
}

/**
 * A line of `info` whose fields are known to hold no secret, made in one go: field by field, as pino makes its lines,
 * the one line of every request costs four times as much, a tenth of a warm manifest.
 */
export function logPlain(log: Logger, fields: Readonly<Record<string, unknown>>, msg: string): void {
  const root = roots.get(log)
  if (!root) log.info(fields, msg)
  else if (log.isLevelEnabled('info')) {
    // The timestamp is a field of its own with a comma before it, as pino wants it.
    root.destination.write(
      `{"level":"info"${root.timestamp()},${JSON.stringify({ ...fields, msg }).slice(1)}\n`,
    )
  }
}

/** Lines of the same millisecond share its text. */
function createTimestamp(): () => string {
  let writtenMs = 0
  let written = ''
  return () => {
    const nowMs = Date.now()
    if (nowMs !== writtenMs) {
      writtenMs = nowMs
      written = `,"time":"${new Date(nowMs).toISOString()}"`
    }
    return written
  }
}

/**
 * As bytes: of text, sonic-boom measures the whole batch again with each line, which cost a warm manifest a third of its
 * CPU (10 µs a line, 3 so).
 */
function standardOutput(onDrop: (() => void) | undefined): pino.DestinationStream {
  const destination = pino.destination({
    fd: 1,
    sync: false,
    contentMode: 'buffer',
    minLength: BATCH_BYTES,
    maxWrite: 2 * BATCH_BYTES,
    maxLength: WAITING_BYTES,
    periodicFlush: BATCH_WAITS_MS,
  })
  if (onDrop) destination.on('drop', onDrop)
  // Its types know text only.
  const lines = destination as unknown as { write(line: Buffer): boolean }
  return { write: (line) => void lines.write(Buffer.from(line)) }
}

/** An error and its causes, without the request it carries (undici's errors hold headers). */
function describeError(error: unknown): unknown {
  if (!(error instanceof Error)) return error
  const { name, message, stack, cause } = error
  const code = 'code' in error ? error.code : undefined
  const kind = 'kind' in error ? error.kind : undefined
  return { name, message, code, kind, stack, cause: cause === undefined ? undefined : describeError(cause) }
}

/** An absolute or relative URL without its query: presigned and sealed ones carry a signature there. */
export function withoutQuery(url: string): string {
  const query = url.indexOf('?')
  return query === -1 ? url : `${url.slice(0, query)}?…`
}
