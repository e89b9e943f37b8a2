/**
 * The real thing: Debian's PostgreSQL with a cluster of its own in a temporary folder, reached over loopback without a
 * password. It refuses to run as root, so there it runs as Debian's user `postgres`.
 */
import { randomUUID } from 'node:crypto'
import { access, chown, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { Client } from 'pg'
import { onFreePort } from './port.ts'
import { type Program, runProgram, startProgram, waitUntilReady } from './process.ts'
import { tempFolder } from './temp.ts'
import { until } from './wait.ts'

/** Debian puts each major version's programs in a folder of its own, outside the PATH. */
const VERSIONS = '/usr/lib/postgresql'
const USER = 'postgres'

export interface PostgresServerOptions {
  /** Survives a power cut; default false: a test's cluster does not outlive the test. */
  readonly durable?: boolean
  /** Further settings: `{ max_connections: '20' }`. */
  readonly settings?: Readonly<Record<string, string>>
}

export interface PostgresServer extends AsyncDisposable {
  readonly port: number
  readonly pid: number
  /** `postgres://…` of a new, empty database. */
  createDatabase(): Promise<string>
  logs(): string
  /** As `systemctl stop`: sessions are ended. Connections are refused until `start`. */
  stop(): Promise<void>
  /** SIGKILL to the server: it recovers at the next `start`. */
  kill(): Promise<void>
  /** On the same port and cluster. */
  start(): Promise<void>
}

export async function startPostgres(options: PostgresServerOptions = {}): Promise<PostgresServer> {
  await using starting = new AsyncDisposableStack()
  const folder = starting.use(await tempFolder('postgres'))
  const cluster = join(folder.path, 'cluster')
  const as = await unprivileged(folder.path)
  const programs = await programFolder()
  await runProgram(
    ...as(join(programs, 'initdb'), '-D', cluster, '-U', USER, '-A', 'trust', '-E', 'UTF8', '--no-sync'),
  )

  async function launch(port: number): Promise<{ program: Program; port: number }> {
    const settings = Object.entries(settingsFor(port, options)).flatMap(([name, value]) => [
      '-c',
      `${name}=${value}`,
    ])
    const program = await startProgram(...as(join(programs, 'postgres'), '-D', cluster, ...settings))
    await waitUntilReady(program, 'postgres to take connections', 30_000, () => query(port, 'select 1'))
    return { program, port }
  }

  let running = await onFreePort(launch)
  starting.defer(stop)
  const { port } = running
  const owned = starting.move()

  /** SIGINT is its fast shutdown; SIGTERM would wait for clients to leave. */
  async function stop(): Promise<void> {
    if (running.program.exit) return
    running.program.signal('SIGINT')
    await running.program.exited
  }
  return {
    port,
    get pid() {
      return running.program.pid
    },
    async createDatabase() {
      const name = `test_${randomUUID().replaceAll('-', '')}`
      await query(port, `create database ${name}`)
      return urlOf(port, name)
    },
    logs: () => running.program.logs(),
    stop,
    async kill() {
      await running.program.kill()
    },
    async start() {
      if (!running.program.exit) throw new Error('this postgres is running: stop it first')
      // After `kill` its orphans hold the cluster until they have noticed.
      running = await until(() => launch(port), { what: 'postgres to start again', deadlineMs: 30_000 })
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

function settingsFor(
  port: number,
  { durable = false, settings }: PostgresServerOptions,
): Record<string, string> {
  return {
    listen_addresses: '127.0.0.1',
    port: String(port),
    unix_socket_directories: '',
    ...(durable ? {} : { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' }),
    ...settings,
  }
}

function urlOf(port: number, database: string): string {
  return `postgres://${USER}@127.0.0.1:${port}/${database}`
}

async function query(port: number, statement: string): Promise<true> {
  const client = new Client({ connectionString: urlOf(port, 'postgres'), connectionTimeoutMillis: 2000 })
  client.on('error', () => {}) // The statement's own promise says it.
  await client.connect()
  try {
    await client.query(statement)
    return true
  } finally {
    await client.end()
  }
}

type Command = (program: string, ...args: string[]) => [program: string, args: string[]]

/** How to run a program as somebody who is not root, who is given the folder. */
async function unprivileged(folder: string): Promise<Command> {
  if (process.getuid?.() !== 0) return (program, ...args) => [program, args]
  const [uid = 0, gid = 0] = await Promise.all(['-u', '-g'].map(idOf))
  await chown(folder, uid, gid)
  const drop = [`--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', '--']
  return (program, ...args) => ['setpriv', [...drop, program, ...args]]
}

async function idOf(option: string): Promise<number> {
  const { stdout } = await runProgram('id', [option, USER])
  return Number(stdout.trim())
}

/** The newest version that has a server (the client's package alone has no `initdb`). */
async function programFolder(): Promise<string> {
  const versions = (await readdir(VERSIONS)).sort((one, other) => Number(other) - Number(one))
  for (const version of versions) {
    const folder = join(VERSIONS, version, 'bin')
    try {
      await access(join(folder, 'initdb'))
      return folder
    } catch {
      // The next one may be complete.
    }
  }
  throw new Error(`there is no server in ${VERSIONS}: apt-get install postgresql`)
}
