/** A process with a made-up replicator that a command can ask, and the command run to its end in this process. */
import { type CommandOutput, type ExitStatus, runCommand } from '../../src/command.ts'
import { createLogger } from '../../src/log.ts'
import { type AdminPorts, startAdmin } from '../../src/status/admin.ts'
import type { ReplicationControl } from '../../src/status/replication-control.ts'
import { SMALLEST } from '../config/given.ts'
import { type FakeControl, fakeControl } from '../status/fake-control.ts'
import { tempFolder } from '../support/temp.ts'

export interface CommandResult {
  readonly status: ExitStatus
  readonly out: string
  readonly err: string
}

export interface RunningSite extends AsyncDisposable {
  readonly control: FakeControl
  /** With this site's configuration. */
  run(args: readonly string[], terminal?: CommandOutput['terminal']): Promise<CommandResult>
  readonly configFile: string
}

const log = createLogger({ destination: { write: () => undefined } })

export async function runningSite(
  overrides: Partial<ReplicationControl> = {},
  ports: Partial<AdminPorts> = {},
): Promise<RunningSite> {
  const stack = new AsyncDisposableStack()
  const folder = stack.use(await tempFolder('commands'))
  const control = fakeControl(overrides)
  const admin = stack.use(
    await startAdmin(
      { host: '127.0.0.1', port: 0 },
      {
        ready: async () => undefined,
        metrics: async () => '',
        collectGarbage: async () => ({ removedBlobs: 1234, removedBlobBytes: 1536 }),
        replication: control,
        ...ports,
      },
      { log, token: () => 'correct horse' },
    ),
  )
  const configFile = await folder.write(
    'config.yml',
    `${SMALLEST}\nhttp: { admin: { addr: "127.0.0.1:${admin.address.port}", token: correct horse } }`,
  )
  return {
    control,
    configFile,
    async run(args, terminal) {
      let out = ''
      let err = ''
      const status = await runCommand([...args, '--config', configFile], {
        out: (text) => {
          out += text
        },
        err: (text) => {
          err += text
        },
        terminal,
      })
      return { status, out, err }
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  }
}
