/**
 * What every rule on several settings is written with: what was given, what it means, and how a fault is reported.
 * Rules look only at settings that are there and valid by themselves, so that all can run on a faulty configuration.
 */
import { formatAddress } from './addresses.ts'
import { SETTINGS, type SettingPath, type Values } from './settings.ts'
import type { Fault, Source } from './source.ts'

export interface Judging {
  readonly source: Source
  readonly values: Partial<Values>
  readonly faults: readonly Fault[]
  given(path: SettingPath): boolean
  has(section: 'auth.none' | 'auth.token' | 'upstream.auth'): boolean
  report(path: string, message: string, origin?: string): void
  /** `why` continues the sentence, from its comma on. */
  needs(paths: readonly SettingPath[], why: string): void
  refuses(paths: readonly SettingPath[], why: string): void
  together(one: SettingPath, other: SettingPath): void
  notBoth(value: SettingPath, file: SettingPath): void
  /** The addresses that a process listens on; a later one is reported when an earlier one has it. */
  apart(paths: readonly AddressPath[]): void
}

type AddressPath = 'http.addr' | 'http.admin.addr' | 'http.events.addr' | 'relay.addr'

export function createJudging(source: Source, values: Partial<Values>): Judging {
  const faults: Fault[] = []
  const given = (path: SettingPath) => source.given.has(path)
  const report = (path: string, message: string, origin?: string) => {
    faults.push({ path, message, origin })
  }
  const needs = (paths: readonly SettingPath[], why: string) => {
    for (const path of paths) {
      if (!given(path)) report(path, `missing; expected ${SETTINGS[path].expected}${why}`)
    }
  }
  const refuses = (paths: readonly SettingPath[], why: string) => {
    for (const path of paths) if (given(path)) report(path, why, source.given.get(path)?.origin)
  }
  return {
    source,
    values,
    faults,
    given,
    has: (section) => source.sections.has(section),
    report,
    needs,
    refuses,
    together(one, other) {
      if (given(one) !== given(other)) needs([one, other], `, since ${given(one) ? one : other} is set`)
    },
    notBoth(value, file) {
      if (given(value)) refuses([file], `expected only one of ${value} and ${file}`)
    },
    apart(paths) {
      for (const [index, path] of paths.entries()) {
        const own = values[path]
        for (const other of paths.slice(0, index)) {
          const taken = values[other]
          if (own && taken && own.port !== 0 && formatAddress(own) === formatAddress(taken)) {
            report(path, `expected another address than ${other}, ${formatAddress(taken)}`)
          }
        }
      }
    },
  }
}
