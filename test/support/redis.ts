/** The real thing: Debian's `redis-server`, on a port of its own, its files in a temporary folder. */
import { join } from 'node:path'
import { onFreePort } from './port.ts'
import { type Program, runProgram, startProgram, waitUntilReady } from './process.ts'
import { tempFolder } from './temp.ts'

export interface RedisOptions {
  /** Every write is on disk before it is answered, so that a restart loses nothing; default: a restart loses all. */
  readonly persistent?: boolean
  /** `requirepass`; default none. */
  readonly password?: string
}

export interface RedisServer extends AsyncDisposable {
  /** `redis://[:password@]127.0.0.1:<port>` */
  readonly url: string
  readonly port: number
  readonly pid: number
  /** `unix:/…`, the socket it listens on too. */
  readonly socketUrl: string
  /** One command, by redis-cli; what it printed, without the last newline. */
  command(...words: readonly string[]): Promise<string>
  /** Connections are refused until `start`. */
  stop(): Promise<void>
  /** kill -9, at once. */
  kill(): Promise<void>
  /** On the same port and folder. */
  start(): Promise<void>
  /** SIGSTOP: the kernel still accepts connections, nobody ever answers. */
  freeze(): void
  thaw(): void
}

export async function startRedis(options: RedisOptions = {}): Promise<RedisServer> {
  await using starting = new AsyncDisposableStack()
  const folder = starting.use(await tempFolder('redis'))
  const { persistent = false, password = '' } = options

  const socket = join(folder.path, 'redis.socket')

  async function launch(onPort: number): Promise<{ program: Program; port: number }> {
    const program = await startProgram('redis-server', [
      ...['--bind', '127.0.0.1', '--port', String(onPort), '--dir', folder.path],
      ...['--save', '', '--appendonly', persistent ? 'yes' : 'no', '--appendfsync', 'always'],
      ...['--requirepass', password, '--unixsocket', socket],
    ])
    await waitUntilReady(program, 'redis-server to accept connections', undefined, () =>
      program.logs().includes('Ready to accept connections'),
    )
    return { program, port: onPort }
  }

  let running = await onFreePort(launch)
  starting.defer(async () => void (await running.program.stop()))
  const { port } = running
  const owned = starting.move()
  return {
    url: `redis://${password && `:${encodeURIComponent(password)}@`}127.0.0.1:${port}`,
    port,
    get pid() {
      return running.program.pid
    },
    socketUrl: `unix:${socket}`,
    async command(...words) {
      const env = password ? { REDISCLI_AUTH: password } : {}
      const { stdout } = await runProgram('redis-cli', ['-p', String(port), ...words], { env })
      return stdout.replace(/\n$/, '')
    },
    async stop() {
      await running.program.stop()
    },
    kill: async () => void (await running.program.kill()),
    async start() {
      if (!running.program.exit) throw new Error('this redis-server is running: stop it first')
      running = await launch(port)
    },
    freeze: () => running.program.signal('SIGSTOP'),
    thaw: () => running.program.signal('SIGCONT'),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}
