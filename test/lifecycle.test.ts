import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { createLifecycle, type LifecycleOptions } from '../src/lifecycle.ts'
import { type Program, startProgram } from './support/process.ts'
import { type TempFolder, tempFolder } from './support/temp.ts'
import { until } from './support/wait.ts'

function make(options: Partial<LifecycleOptions> = {}) {
  const lines: string[] = []
  const write = (fields: object, message: string) => {
    lines.push('name' in fields ? `${message}: ${String(fields.name)}` : message)
  }
  const lifecycle = createLifecycle({ log: { info: write, warn: write, error: write }, ...options })
  return { lifecycle, lines }
}

describe('stopping', () => {
  it('drains everything at once, then releases in the reverse order of owning', async () => {
    const { lifecycle } = make()
    const events: string[] = []
    const both = Promise.withResolvers<void>()
    lifecycle.own('store', () => void events.push('store'))
    lifecycle.onDrain('public', async () => {
      events.push(`public, stopping ${lifecycle.stopping.aborted}`)
      await both.promise
    })
    lifecycle.own('upstream', { [Symbol.dispose]: () => void events.push('upstream') })
    lifecycle.onDrain('events', () => {
      events.push('events')
      both.resolve()
    })
    lifecycle.own('listener', { [Symbol.asyncDispose]: async () => void events.push('listener') })

    expect(await lifecycle.stop('test')).toEqual({ clean: true })
    expect(events).toEqual(['public, stopping true', 'events', 'listener', 'upstream', 'store'])
  })

  it('happens once, however often it is asked for', async () => {
    const { lifecycle } = make()
    const release = vi.fn()
    lifecycle.own('store', release)

    const results = await Promise.all([lifecycle.stop('one'), lifecycle.stop('two'), lifecycle.stopped])
    await lifecycle[Symbol.asyncDispose]()

    expect(results).toEqual([{ clean: true }, { clean: true }, { clean: true }])
    expect(release).toHaveBeenCalledOnce()
  })

  it('tells what is in flight when the drain timeout has passed, and waits for it to be cut', async () => {
    const { lifecycle } = make({ drainTimeoutMs: 20 })
    let cut = false
    lifecycle.onDrain('public', async (deadline) => {
      await new Promise((resolve) => deadline.addEventListener('abort', resolve))
      await delay(30)
      cut = true
    })
    lifecycle.own('store', () => expect(cut).toBe(true))

    expect(await lifecycle.stop('test')).toEqual({ clean: true })
  })

  it('goes on when a part fails or hangs, and says that it was not clean', async () => {
    const { lifecycle, lines } = make({ drainTimeoutMs: 10, phaseTimeoutMs: 10 })
    const release = vi.fn()
    lifecycle.own('first', release)
    lifecycle.own('throws', () => {
      throw new Error('no')
    })
    lifecycle.own('hangs', () => new Promise(() => {}))
    lifecycle.onDrain('never drained', () => new Promise(() => {}))

    expect(await lifecycle.stop('test')).toEqual({ clean: false })
    expect(release).toHaveBeenCalledOnce()
    expect(lines.filter((line) => line.includes('failed'))).toEqual([
      'draining failed: never drained',
      'releasing failed: hangs',
      'releasing failed: throws',
    ])
  })

  it('releases at once what is owned too late', async () => {
    const { lifecycle } = make()
    const late = Promise.withResolvers<void>()
    lifecycle.own('while stopping', async () => lifecycle.own('nested', () => undefined))
    await lifecycle.stop('test')

    lifecycle.own('late listener', late.resolve)

    await late.promise
  })
})

describe('reloading', () => {
  it('reaches every subscriber in turn, also after one that fails', async () => {
    const { lifecycle, lines } = make()
    const events: string[] = []
    lifecycle.onReload('keys', async () => {
      await delay(5)
      events.push('keys')
    })
    lifecycle.onReload('certificates', () => {
      throw new Error('half written')
    })
    lifecycle.onReload('secrets', () => void events.push('secrets'))

    await Promise.all([lifecycle.reload('one'), lifecycle.reload('two')])

    expect(events).toEqual(['keys', 'secrets', 'keys', 'secrets'])
    expect(lines).toContain('reload failed: what was read before stays in use: certificates')
  })

  it('is over once the process stops', async () => {
    const { lifecycle } = make()
    const subscriber = vi.fn()
    lifecycle.onReload('keys', subscriber)
    await lifecycle.stop('test')

    await lifecycle.reload('too late')

    expect(subscriber).not.toHaveBeenCalled()
  })
})

describe('a process', () => {
  let folder: TempFolder
  beforeAll(async () => {
    folder = await tempFolder('lifecycle')
  })
  afterAll(async () => await folder[Symbol.asyncDispose]())

  /** Runs `body` with a lifecycle that handles signals; each log line and each `say` is a line of output. */
  async function run(name: string, body: string): Promise<Program> {
    const script = await folder.write(
      `${name}.ts`,
      `import { createLifecycle } from ${JSON.stringify(join(import.meta.dirname, '../src/lifecycle.ts'))}
const say = (text: string) => process.stdout.write(text + '\\n')
const write = (fields: object, message: string) => say(message + ' ' + JSON.stringify(fields))
const log = { info: write, warn: write, error: write }
const lifecycle = createLifecycle({ log, drainTimeoutMs: 60_000, exitTimeoutMs: 100 })
lifecycle.handleSignals()
const busy = setInterval(() => {}, 1000)
${body}
say('ready')
process.exitCode = (await lifecycle.stopped).clean ? 0 : 1
`,
    )
    const program = await startProgram(process.execPath, [script])
    await until(() => program.logs().includes('ready'), { what: 'the process to be ready' })
    return program
  }

  it.each(['SIGTERM', 'SIGINT'] as const)(
    'ends with status 0 after %s once all is released',
    async (signal) => {
      await using program = await run(signal, `lifecycle.own('work', () => clearInterval(busy))`)

      program.signal(signal)

      expect(await program.exited).toEqual({ code: 0, signal: null })
      expect(program.logs()).toMatch(/stopping .*\nstopped \{"clean":true\}/)
    },
  )

  it('waits for what is in flight, and exits at once at a second signal', async () => {
    await using program = await run('second', `lifecycle.onDrain('stuck', () => new Promise(() => {}))`)

    program.signal('SIGTERM')
    await until(() => program.logs().includes('stopping'), { what: 'the stop to begin' })
    expect(program.exit).toBeUndefined()
    program.signal('SIGINT')

    expect(await program.exited).toEqual({ code: 1, signal: null })
    expect(program.logs()).toContain('second signal: exiting at once')
  })

  it('takes one keystroke that npm passes on again for one signal', async () => {
    await using program = await run(
      'npm',
      `let signals = 0
const twice = new Promise<void>((resolve) => process.on('SIGINT', () => { if (++signals === 2) resolve() }))
lifecycle.onDrain('transfer', () => { process.kill(process.pid, 'SIGINT'); return twice })
lifecycle.own('work', () => clearInterval(busy))`,
    )

    program.signal('SIGINT')

    expect(await program.exited).toEqual({ code: 0, signal: null })
  })

  it('that lives on after the stop is ended with a complaint', async () => {
    await using program = await run('watchdog', '')

    program.signal('SIGTERM')

    expect(await program.exited).toEqual({ code: 1, signal: null })
    expect(program.logs()).toMatch(/something kept the process: exiting \{"held_by":\[.*"Timeout"/)
  })

  it('reloads on SIGHUP and goes on', async () => {
    await using program = await run('hup', `lifecycle.onReload('keys', () => say('keys read again'))`)

    program.signal('SIGHUP')

    await until(() => program.logs().includes('keys read again'), { what: 'the reload' })
    expect(program.exit).toBeUndefined()
  })
})
