import type { Cents } from '@acme/shared'

export const inEuros = (amount: Cents): string => `€${(amount / 100).toFixed(2)}`
