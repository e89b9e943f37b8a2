/** The registries that are measured by themselves and behind a secondary, open to all, with every kind of deletion. */
import { join } from 'node:path'
import { startDockerRegistry } from '../support/docker-registry.ts'
import { buildGoProgram } from '../support/go-program.ts'
import { onFreePort } from '../support/port.ts'
import { startProgram, waitForHttp } from '../support/process.ts'

export interface Primary extends AsyncDisposable {
  readonly url: string
  /** Connections are refused from then on. */
  stop(): Promise<void>
}

/** By the name that the result carries. */
export const PRIMARIES: Readonly<Record<string, () => Promise<Primary>>> = {
  olareg: startOlareg,
  'docker-registry': () => startDockerRegistry(),
}

const OLAREG_MODULE = join(import.meta.dirname, 'olareg')

export async function startOlareg(): Promise<Primary> {
  await using starting = new AsyncDisposableStack()
  const program = await buildGoProgram(OLAREG_MODULE, 'github.com/olareg/olareg/cmd/olareg')
  const running = starting.use(
    await onFreePort(async (port) => {
      const where = ['--addr', '127.0.0.1', '--port', String(port), '--store-type', 'mem']
      // In memory: read again from its folder at some moment, it forgets the manifests of an index that was deleted,
      // and no two runs are alike. Nothing is collected, as a case that takes long must not lose what it pushed.
      const rules = ['--api-delete', '--api-blob-delete', '--gc-frequency', '-1s']
      const process = await startProgram(program, ['serve', ...where, ...rules])
      await waitForHttp(process, `http://127.0.0.1:${port}/v2/`)
      return { port, stop: () => process.stop(), [Symbol.asyncDispose]: () => process[Symbol.asyncDispose]() }
    }),
  )
  const owned = starting.move()
  return {
    url: `http://127.0.0.1:${running.port}`,
    stop: async () => void (await running.stop()),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}
